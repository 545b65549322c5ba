"""`tttkit report`: the research questions answered in writing, from the files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tttkit.errors import UsageError
from tttkit.run.directory import find_run
from tttkit.storage import files
from tttkit_cli.console import out, print_json


def report(
    run: Annotated[
        Path | None,
        typer.Argument(help="RUN directory, or that of a study (default: the newest run under runs/).", metavar="RUN"),
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

    Both open with three sentences and answer the research questions with rules and figures. For the directory of a
    study, report.html says what was varied, what each value does, which setting is best, and what was not run.

    Examples: `tttkit report runs/quick --against runs/sw` · `tttkit report studies/rates`
    """
    from tttkit.report.study import is_study
    from tttkit.report.write import write_report

    if run is not None and is_study(run):
        _report_study(run, output or run, against, json_output=json_output)
        return
    directory = find_run(run or curriculum_dir)
    others = [find_run(path) for path in against or []]
    written, findings = write_report(directory, output or directory.path, others)
    if json_output:
        print_json({"written": [str(path) for path in written], "findings": files.json_safe(findings.to_dict())})
        return
    for path in written:
        out.print(str(path), markup=False, soft_wrap=True)


def _report_study(study: Path, target: Path, against: list[Path] | None, *, json_output: bool) -> None:
    from tttkit.report.study import write_study_report

    if against:
        raise UsageError("--against compares runs, and this is a study", hint="`tttkit compare STUDY RUN` shows both")
    written, figures = write_study_report(study, target)
    if json_output:
        print_json({"written": [str(written)], **files.json_safe(figures)})
    else:
        out.print(str(written), markup=False, soft_wrap=True)
