"""`tttkit report`: the written answer to the research questions, made from the files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tttkit.run.directory import RunDirectory, find_run
from tttkit.storage import files
from tttkit_cli.console import out, print_json


def report(
    run: Annotated[
        Path | None, typer.Argument(help="RUN directory (default: the newest under runs/).", metavar="RUN")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="A run to compare with; may be given again.", show_default=False)
    ] = None,
    curriculum_dir: Annotated[
        Path | None, typer.Option(help="Another name of RUN, for the earlier system's commands.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Directory to write to (default: RUN).", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Write CURRICULUM_RESULTS.md and report.html: the research questions, each answered with rule and figures.

    Example: `tttkit report runs/quick --against runs/sw`
    """
    directory = find_run(run or curriculum_dir)
    target = output or directory.path
    target.mkdir(parents=True, exist_ok=True)
    written, findings = write_report(directory, [find_run(path) for path in against or []], target)
    if json_output:
        print_json({"written": [str(path) for path in written], "findings": files.json_safe(findings)})
        return
    for path in written:
        out.print(str(path), markup=False, soft_wrap=True)


def write_report(run: RunDirectory, against: list[RunDirectory], target: Path) -> tuple[list[Path], dict[str, object]]:
    """Write every form of the report into `target`; returns the files and the findings as plain values."""
    from tttkit.analyze.compare import compare
    from tttkit.analyze.findings import find
    from tttkit.analyze.record import load
    from tttkit.report.markdown import REPORT_NAME, render
    from tttkit.report.page.html import REPORT_NAME as PAGE_NAME
    from tttkit.report.page.html import write_html

    record = load(run)
    others = [load(other) for other in against]
    findings = find(record)
    path = target / REPORT_NAME
    files.write_text(path, render(record, findings, compare([record, *others]) if others else None))
    page = write_html(
        run,
        target / PAGE_NAME,
        findings=[f"{item.topic.replace('_', ' ')}: {item.statement}" for item in findings.items],
        against=against,
    )
    return [path, page], findings.to_dict()
