"""CURRICULUM_RESULTS.md: the questions by name and in order, figures of the files, equal bytes, what is missing."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.analyze.conftest import make_run  # noqa: F401 - a fixture
from tests.analyze.test_contexts import planted
from tttkit.analyze.compare import compare
from tttkit.analyze.findings import find
from tttkit.report.figures.position import EVOLUTION_NAME
from tttkit.report.markdown import render
from tttkit.report.markdown_parts import sparkline, table

HEADINGS = [
    "## Research questions", "### 1. When does it converge?", "### 2. Does the SW advantage persist?",
    "### 3. Position-specific behavior", "### 4. Training dynamics", "## Success criteria", "## Comparison",
    "### The 15k run of the earlier system, and what was wrong with it", "## Tables", "## Plots", "## Environment",
    "## Data and protocol", "## What could not be known", "## Commands",
]  # fmt: skip


@pytest.fixture
def record(make_run):  # noqa: F811
    return make_run([0, 100, 200, 300], planted(lambda context, _, c: 0.5 if c > 5 else 0.0))


def test_the_questions_are_answered_in_order_with_the_figures_of_the_files(record):
    text = render(record, find(record), "finished")
    places = [text.index(heading + "\n") for heading in HEADINGS]
    assert places == sorted(places)
    assert "full beats every windowed context at 10 x W, 20 x W" in text.replace("Full", "full")
    assert f"{record.evaluations[-1].summary.perplexity('full', 20):,.2f}" in text
    assert text == render(record, find(record), "finished")
    assert str(record.path) not in text


def test_the_last_of_many_evaluations_is_in_the_table(make_run):  # noqa: F811
    record = make_run(list(range(0, 5001, 100)), planted(lambda *_: 0.0, num_sequences=4))
    rows = render(record, find(record), "finished").split("## Tables")[1].split("## Plots")[0]
    assert "\n| 0 | 0 |" in rows
    assert "\n| 5,000 | 10,240,000 |" in rows
    assert "25 of 51 evaluations." in rows


def test_the_environment_leaves_out_facts_that_do_not_affect_the_result(record):
    environment = {"host": "my-machine", "boot_id": "my-boot", "torch": "2.12", "num_threads": 1}
    text = render(dataclasses.replace(record, metadata={"environment": environment}), find(record), "finished")
    assert "| torch | 2.12 |" in text
    assert "my-machine" not in text
    assert "my-boot" not in text


def test_missing_facts_are_listed(record):
    for item in record.evaluations:
        (item.directory / "chunk_nll.safetensors").unlink()
    missing = render(record, find(record), "finished").split("## What could not be known")[1]
    assert "winner: No winner can be named" in missing
    assert "learning rate: Learning rate and loss were not logged together." in missing


def test_comparison_is_in_the_report(make_run):  # noqa: F811
    effect = planted(lambda context, _, c: 0.5)
    runs = [make_run([0, 100], effect, name=name, **extra) for name, extra in (("a", {}), ("b", {"chunk_size": 16}))]
    text = render(runs[0], find(runs[0]), "finished", compare(runs))
    assert (
        "Refused: perplexities at m x W and selection_ppl (`chunk_size`: they average over different positions)" in text
    )
    assert re.search(r"\| b \| ttt-linear \| .*refused", text)
    assert "tttkit report a --against b" in text


def test_verdicts_are_in_the_summary_and_every_run_has_its_option(make_run):  # noqa: F811
    runs = [make_run([0, 100], planted(lambda *_: 0.5), name=name) for name in ("a", "b", "c")]
    text = render(runs[0], find(runs[0]), "finished", compare(runs))
    summary = text.split("## Research questions")[0]
    for run in ("b", "c"):
        sentence = f"- Full of a against {run}, at equal tokens: no difference found at 1, 2, 5, 10 and 20 x W.\n"
        assert summary.count(sentence) == 1
    assert "tttkit report a --against b --against c" in text


def test_tables_and_bars():
    assert table([{"a_b": None, "c": 0.5}, {"c": "x|y"}]) == "| a b | c |\n|---|---|\n| – | 0.5 |\n| – | x\\|y |"
    assert table([]) == ""
    heads = table([{"run_a": 1, "sw_aligned": 2, "sw_aligned/full": 3, "step_b": 4}], names=["run_a"]).splitlines()[0]
    assert heads == "| run_a | sw_aligned | sw_aligned/full | step b |"
    assert sparkline([3.0, 1.0, 2.0]) == "█▁▅"
    assert len(sparkline(list(range(500)))) == 40
    assert sparkline([1.0]) == ""


@pytest.mark.parametrize("name", ["length_gen_study_w64_500ckpt_no_sp", "long_training_wt103"])
def test_earlier_runs_give_a_report_that_says_what_is_unknown(shared, name):
    from tttkit.analyze.record import load
    from tttkit.run.directory import find_run

    record = load(find_run(shared / "data" / "legacy_runs" / name))
    text = render(record, find(record), "finished")
    assert [text.index(heading) for heading in HEADINGS] == sorted(text.index(heading) for heading in HEADINGS)
    assert "No winner can be named" in text
    assert "overwritten by the full context" in text.split("## What could not be known")[1]


def test_the_evolution_is_shown_if_it_was_drawn(record):
    image = f"![Evolution of length generalization]({EVOLUTION_NAME}.png)"
    assert image not in render(record, find(record), "finished")
    (record.path / f"{EVOLUTION_NAME}.png").write_bytes(b"")
    assert image in render(record, find(record), "finished")
