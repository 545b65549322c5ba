"""`tttkit report`: the research questions answered in writing, from the files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tttkit.run.directory import find_run
from tttkit.storage import files
from tttkit_cli.console import out, print_json


def report(
    run: Annotated[
        Path | None, typer.Argument(help="RUN directory (default: the newest under runs/).", metavar="RUN")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Another run to compare with; may be repeated.", show_default=False)
    ] = None,
    curriculum_dir: Annotated[
        Path | None, typer.Option(help="Another name for RUN, as in the earlier system.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Directory to write to (default: RUN).", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Write the Markdown and HTML report: CURRICULUM_RESULTS.md and report.html.

    Both open with three sentences and answer the research questions with rules and figures.

    Example: `tttkit report runs/quick --against runs/sw`
    """
    from tttkit.report.write import write_report

    directory = find_run(run or curriculum_dir)
    others = [find_run(path) for path in against or []]
    written, findings = write_report(directory, output or directory.path, others)
    if json_output:
        print_json({"written": [str(path) for path in written], "findings": files.json_safe(findings.to_dict())})
        return
    for path in written:
        out.print(str(path), markup=False, soft_wrap=True)
