"""CURRICULUM_RESULTS.md: the questions by name and in order, figures of the files, equal bytes, what is missing."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.analyze.conftest import make_run  # noqa: F401 - a fixture
from tests.analyze.test_contexts import planted
from tttkit.analyze.compare import compare
from tttkit.analyze.findings import find
from tttkit.report.markdown import criteria, render, sparkline, table

HEADINGS = [
    "## Research questions", "### 1. When does it converge?", "### 2. Does the SW advantage persist?",
    "### 3. Position-specific behaviour", "### 4. Training dynamics", "## Success criteria", "## Comparison",
    "### The 15k run of the earlier system, and what was wrong with it", "## Tables", "## Plots", "## Environment",
    "## Data and protocol", "## What could not be known", "## Commands",
]  # fmt: skip


@pytest.fixture
def record(make_run):  # noqa: F811
    return make_run([0, 100, 200, 300], planted(lambda context, _, c: 0.5 if c > 5 else 0.0))


def test_the_questions_are_answered_in_order_with_the_figures_of_the_files(record):
    text = render(record, find(record))
    places = [text.index(heading + "\n") for heading in HEADINGS]
    assert places == sorted(places)
    assert "full beats every windowed context at 10 x W, 20 x W" in text.replace("Full", "full")
    assert f"{record.checkpoints[-1].perplexity('full', 20):,.2f}" in text
    assert text == render(record, find(record))
    assert str(record.path) not in text


def test_success_criteria_are_computed(record):
    marks = {text.split(":")[0]: met for met, text in criteria(record, find(record))}
    assert marks["PPL@1xW under 100"] is True
    assert marks["Early stopping came naturally"] is False
    assert marks["All checkpoints evaluated"] is True
    assert marks["Plateau reached"] in (None, True, False)


def test_a_threshold_that_was_passed_counts_though_the_run_ends_above_it(make_run):  # noqa: F811
    def nll(context, step, generator):
        return planted(lambda *_: 0.0)(context, step, generator) + (step == 300)

    record = make_run([0, 100, 200, 300], nll)
    met, text = criteria(record, find(record))[3]
    best, last = (record.checkpoints[index].summary["selection_ppl"] for index in (0, -1))
    assert best < 100 < last < 200
    assert (met, text) == (True, f"PPL@1xW under 100: best {best:,.2f}, last {last:,.2f} (selection_ppl)")


def test_the_last_of_many_evaluations_is_in_the_table(make_run):  # noqa: F811
    record = make_run(list(range(0, 5001, 100)), planted(lambda *_: 0.0, num_sequences=4))
    rows = render(record, find(record)).split("## Tables")[1].split("## Plots")[0]
    assert "\n| 0 | 0 |" in rows
    assert "\n| 5,000 | 10,240,000 |" in rows
    assert "25 of 51 evaluations." in rows


def test_the_environment_without_what_says_nothing_about_the_result(record):
    environment = {"host": "my-machine", "boot_id": "my-boot", "torch": "2.12", "num_threads": 1}
    text = render(dataclasses.replace(record, metadata={"environment": environment}), find(record))
    assert "| torch | 2.12 |" in text
    assert "my-machine" not in text
    assert "my-boot" not in text


def test_what_is_missing_is_said(record):
    for item in record.checkpoints:
        (item.directory / "chunk_nll.safetensors").unlink()
    missing = render(record, find(record)).split("## What could not be known")[1]
    assert "winner: No winner can be named" in missing
    assert "learning rate: Learning rate and loss were not logged together." in missing


def test_comparison_is_in_the_report(make_run):  # noqa: F811
    effect = planted(lambda context, _, c: 0.5)
    runs = [make_run([0, 100], effect, name=name, **extra) for name, extra in (("a", {}), ("b", {"chunk_size": 16}))]
    text = render(runs[0], find(runs[0]), compare(runs))
    assert "Refused: perplexities at m x W and selection_ppl (`chunk_size`: they average over other positions)" in text
    assert re.search(r"\| b \| ttt-linear \| .*refused", text)
    assert "tttkit report a --against b" in text


def test_verdicts_stand_in_the_summary_and_every_run_has_its_option(make_run):  # noqa: F811
    runs = [make_run([0, 100], planted(lambda *_: 0.5), name=name) for name in ("a", "b", "c")]
    text = render(runs[0], find(runs[0]), compare(runs))
    summary = text.split("## Research questions")[0]
    assert "- full of a against b, at equal tokens: 1xW no difference found; 2xW no difference found;" in summary
    assert "tttkit report a --against b --against c" in text


def test_tables_and_bars():
    assert table([{"a_b": None, "c": 0.5}, {"c": "x|y"}]) == "| a b | c |\n|---|---|\n| – | 0.5 |\n| – | x\\|y |"
    assert table([]) == ""
    assert sparkline([3.0, 1.0, 2.0]) == "█▁▅"
    assert len(sparkline(list(range(500)))) == 40
    assert sparkline([1.0]) == ""


@pytest.mark.parametrize("name", ["length_gen_study_w64_500ckpt_no_sp", "long_training_wt103"])
def test_earlier_runs_give_a_report_that_says_what_is_unknown(shared, name):
    from tttkit.analyze.record import load
    from tttkit.run.directory import find_run

    record = load(find_run(shared / "data" / "legacy_runs" / name))
    text = render(record, find(record))
    assert [text.index(heading) for heading in HEADINGS] == sorted(text.index(heading) for heading in HEADINGS)
    assert "No winner can be named" in text
    assert "overwritten by the full context" in text.split("## What could not be known")[1]
