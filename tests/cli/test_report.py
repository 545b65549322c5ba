"""`tttkit report` and `tttkit compare` on a trained run, and on runs without results."""

from __future__ import annotations

import html
import json
import re
import shutil

import pytest

from tests.cli.conftest import tttkit
from tests.cli.test_console import on_terminal
from tttkit.storage import files


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_report_of_a_run_twice_gives_the_same_bytes(copy):
    first = tttkit("report", copy)
    path = copy / "CURRICULUM_RESULTS.md"
    page = copy / "report.html"
    assert (first.code, first.out) == (0, f"{path}\n{page}\n")
    before = path.read_bytes()
    statement = json.loads(tttkit("report", copy, "--json").out)["findings"]["items"][0]["statement"]
    assert html.escape(statement) in page.read_text()
    assert tttkit("report", "--curriculum_dir", copy).code == 0
    assert path.read_bytes() == before
    assert b"### 2. Does the SW advantage persist?" in before


def test_findings_as_json_beside_another_run(copy, finished, tmp_path):
    answer = tttkit("report", copy, "--against", finished, "-o", tmp_path / "out", "--json")
    value = json.loads(answer.out)
    topics = [item["topic"] for item in value["findings"]["items"]]
    assert topics[:4] == ["convergence", "training_loss", "early_stopping", "winner"]
    assert "Ratio to the full context of copy" in (tmp_path / "out" / "CURRICULUM_RESULTS.md").read_text()


def test_plot_as_html_writes_the_page_of_the_report(copy, finished, tmp_path):
    assert tttkit("report", copy, "--against", finished, "-o", tmp_path / "report").code == 0
    assert tttkit("plot", copy, finished, "--format", "html", "-o", tmp_path / "plot").code == 0
    page = (tmp_path / "report" / "report.html").read_bytes()
    assert (tmp_path / "plot" / copy.name / "report.html").read_bytes() == page
    assert tttkit("plot", copy, "--format", "html").code == tttkit("report", copy, "-o", tmp_path / "alone").code == 0
    assert (copy / "report.html").read_bytes() == (tmp_path / "alone" / "report.html").read_bytes() != page


def test_compare_prints_and_gives_json(copy, finished):
    shown = tttkit("compare", copy, finished)
    assert shown.code == 0
    assert "at equal tokens, which is the end of each run" in shown.out
    assert shown.out.count("best windowed 20xW") == 1, "the same table is not printed twice"
    value = json.loads(tttkit("compare", copy, finished, "--json").out)
    assert value["runs"] == ["copy", "small"]
    assert value["protocol_differences"] == value["config_differences"] == []
    assert value["paired"][-1]["20xW"]


def test_compare_shows_small_settings_whole(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    metadata = json.loads((copy / "metadata.json").read_text())
    metadata["config"]["optimizer"]["learning_rate"] = 0.0004
    (copy / "metadata.json").write_text(json.dumps(metadata))
    (row,) = [line for line in tttkit("compare", copy, finished).out.splitlines() if "optimizer.learning_rate" in line]
    assert "0.0004" in row
    assert "0.003" in row


def test_compare_at_equal_tokens_and_at_the_end_if_they_differ(copy, finished):
    """The copy has lost its last evaluation, so the other run is compared at the tokens that the copy had seen."""
    files.write_json(copy / "all_summaries.json", files.read_json(copy / "all_summaries.json")[:-1])
    files.remove_tree(copy / "checkpoint_002")
    shown = tttkit("compare", finished, copy).out
    titles = [line.rstrip() for line in shown.splitlines() if line.startswith("at ")]
    assert titles == ["at equal tokens", "at the end"]
    assert shown.count("best windowed 20xW") == 2


def test_compare_on_a_narrow_terminal_names_run_and_context_in_each_part(copy, finished):
    code, text = on_terminal(["compare", copy, finished], {"TERM": "xterm", "COLUMNS": "60"})
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    assert code == 0
    assert max(map(len, lines)) <= 60, max(lines, key=len)
    first, end = (
        next(index for index, line in enumerate(lines) if line.startswith(title))
        for title in ("ratio to the full", "over seeds")
    )
    heads = [line.split() for line in lines[first:end] if line.startswith("┃")]
    assert len(heads) > 1
    assert [head[:4] for head in heads] == [["┃", "run", "┃", "context"]] * len(heads)


def test_compare_needs_two_runs(finished):
    answer = tttkit("compare", finished)
    assert answer.code == 2
    assert "at least two runs" in answer.error


def test_a_run_without_evaluations_and_an_empty_result_file(tmp_path):
    (tmp_path / "metadata.json").write_text("{}")
    answer = tttkit("report", tmp_path)
    assert (answer.code, "has no evaluation yet" in answer.error) == (2, True)
    (tmp_path / "w128.json").write_text("[]")
    for command in ("report", "plot", "status"):
        answer = tttkit(command, tmp_path / "w128.json")
        assert (answer.code, "is an empty list" in answer.error) == (65, True)


def test_means_of_an_earlier_file_are_plotted_beside_it(tmp_path):
    shared = {"training_window": 32, "sw_ppl_mean": 8.0}
    entries = [{"checkpoint_idx": i, "step": 200 * i, "ttt_ppl_mean": 9.0 - i, **shared} for i in range(4)]
    (tmp_path / "w32.json").write_text(json.dumps(entries))
    answer = tttkit("plot", tmp_path / "w32.json")
    assert answer.code == 0
    assert (tmp_path / "curriculum_length_gen_evolution.png").read_bytes().startswith(b"\x89PNG")
    assert tttkit("status", tmp_path / "w32.json").code == 0
    assert tttkit("report", tmp_path / "w32.json").code == 0
    assert "<h2>Curves</h2>" not in (tmp_path / "report.html").read_text(), "there are none"


def test_report_of_a_study(tmp_path, finished):
    files.write_json(tmp_path / "study.json", {"seeds": [1, 2]})
    answer = tttkit("report", tmp_path)
    assert (answer.code, answer.out) == (0, f"{tmp_path / 'report.html'}\n")
    assert json.loads(tttkit("report", tmp_path, "--json").out)["settings"][0]["states"] == ["waiting", "waiting"]
    refused = tttkit("report", tmp_path, "--against", finished)
    assert refused.code == 2
    assert "tttkit compare STUDY RUN" in refused.err
