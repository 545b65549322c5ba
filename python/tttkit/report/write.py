"""Write both forms of the report: CURRICULUM_RESULTS.md and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tttkit.analyze.compare import compare
from tttkit.analyze.finding import Findings
from tttkit.analyze.findings import find
from tttkit.analyze.record import load
from tttkit.health.status import read_status
from tttkit.report.markdown import REPORT_NAME, render
from tttkit.report.model_sections import model_sections
from tttkit.report.page.html import REPORT_NAME as PAGE_NAME
from tttkit.report.page.html import render_page
from tttkit.run.directory import RunDirectory
from tttkit.storage import files


def write_report(run: RunDirectory, target: Path, against: Sequence[RunDirectory] = ()) -> tuple[list[Path], Findings]:
    """Write the report of a run into the folder `target`; return the files written and the findings.

    The runs `against` are compared with it. Raises UsageError when a run has no evaluation yet, DataError when a file
    is damaged, DiskFullError.
    """
    target.mkdir(parents=True, exist_ok=True)
    record = load(run)
    others = [load(other) for other in against]
    findings = find(record)
    comparison = compare([record, *others]) if others else None
    state = read_status(run).state
    texts = {
        target / REPORT_NAME: render(record, findings, state, comparison, model_sections(run)),
        target / PAGE_NAME: render_page(run, record, findings, state, against),
    }
    for path, text in texts.items():
        files.write_text(path, text)
    return list(texts), findings
