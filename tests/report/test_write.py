"""Both forms of the report: `tttkit report` and `tttkit plot --format html` write the same page."""

from __future__ import annotations

from tests.report.made_up import write_run
from tttkit.analyze.findings import find
from tttkit.report.page.html import write_page
from tttkit.report.write import write_report


def test_both_files_are_written_and_the_findings_returned(tmp_path):
    run = write_run(tmp_path / "run", 2)
    written, findings = write_report(run, tmp_path / "new" / "out")
    assert [path.relative_to(tmp_path / "new" / "out").name for path in written] == [
        "CURRICULUM_RESULTS.md",
        "report.html",
    ]
    assert all(path.is_file() for path in written)
    assert findings == find(run)


def test_the_page_written_alone_is_the_page_of_the_report(tmp_path):
    run, other = (write_run(tmp_path / name, 2) for name in ("run", "other"))
    for against in ([], [other]):
        (_, page), _ = write_report(run, tmp_path / "report", against)
        assert write_page(run, tmp_path / "plot", against).read_bytes() == page.read_bytes()
