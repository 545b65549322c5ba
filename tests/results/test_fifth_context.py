"""A fifth context is one entry of the table and one scoring function; older results without it stay complete."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.models.small import small_model
from tttkit.analyze.compare import compare
from tttkit.analyze.curves import load_curves
from tttkit.analyze.findings import find
from tttkit.analyze.record import load, read_sequences
from tttkit.analyze.winner import name_winner, ratios_of_summary
from tttkit.config.run import EvaluationConfig
from tttkit.data import open_split
from tttkit.evaluate.evaluation import write_evaluation
from tttkit.evaluate.measure import evaluate_model
from tttkit.evaluate.nll import SCORING, token_nll
from tttkit.results.contexts import CONTEXTS, Context
from tttkit.results.curves import Curves
from tttkit.results.summary import Summary
from tttkit.run.directory import find_run
from tttkit.storage import files
from tttkit_cli.views.tables import evaluation_table, whole_split_table

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run_0_1_0"
LEGACY = ("length_gen_study_w64_500ckpt", "length_gen_study_w64_500ckpt_no_sp", "long_training_wt103")
W, T = 16, 320
PROTOCOL = EvaluationConfig(
    max_length=T, num_sequences=4, chunk_size=8, chunk_stride=8, selection_windows=8, num_resamples=200, sw_mode="exact"
)


def score_half(runner, window, wanted):
    """Reset the state every W/2 tokens."""
    half = window // 2
    runner.plan(np.arange(0, wanted.size, half), half, half)


def add_the_fifth(monkeypatch):
    context = Context(
        name="half", key="half", is_windowed=True, is_required=False, description="fresh state every W/2 tokens",
        colour="#CC79A7", line_style="-", cost=lambda length, *_: length, block_sequences=64,
    )  # fmt: skip
    monkeypatch.setitem(CONTEXTS, "half", context)
    monkeypatch.setitem(SCORING, "half", score_half)


@pytest.fixture
def fifth(monkeypatch):
    add_the_fifth(monkeypatch)


@pytest.fixture
def make_run(tiny_data, tmp_path):
    """`make_run(name, seed)` makes a run with one evaluation of a tiny model and returns the Record that reads it."""
    split = open_split(tiny_data, "validation")

    def build(name, seed=0):
        model = small_model(seed=seed, vocab_size=split.vocab_size)
        evaluation = evaluate_model(model, split, PROTOCOL, window=W)
        run = tmp_path / name
        facts = {"checkpoint_idx": 0, "step": 100, "tokens_seen": 6400, "model": "ttt-linear"}
        summary = write_evaluation(run / "checkpoint_000", evaluation, facts)
        Summary.write_all(run / "all_summaries.json", [summary])
        metadata = {"schema_version": 1, "config": {"train": {"window": W, "seed": seed}}, "model": {}}
        files.write_json(run / "metadata.json", metadata)
        return load(find_run(run))

    return build


def shown(table):
    text = io.StringIO()
    Console(file=text, width=300).print(table)
    return text.getvalue()


@pytest.mark.usefixtures("fifth")
def test_the_fifth_context_is_evaluated_written_read_and_shown(make_run, tiny_data):
    record = make_run("run")
    summary, directory = record.evaluations[-1].summary, record.evaluations[-1].directory
    assert "half" in summary.contexts()
    values = json.loads((directory / "summary.json").read_text())
    assert values["half_ppl_at_20xW"] == summary.perplexity("half", 20) != summary.perplexity("reset", 20)
    assert values["half_ratio_ci_low_at_20xW"] < values["half_ratio_at_20xW"] < values["half_ratio_ci_high_at_20xW"]
    assert values["half_ppl_corpus"] == summary.corpus("half")
    curves = Curves.read(directory / "chunk_eval.json")
    assert curves.contexts() == ["full", "sw", "sw_aligned", "reset", "half"]
    assert len(curves.ratio("half", "ratio_band_low")) == T // 8
    split = open_split(tiny_data, "validation")
    model = small_model(vocab_size=split.vocab_size)
    expected = token_nll(model, split.tokens(0, T + 1)[None], "half", window=W)
    sequences = read_sequences(directory)
    np.testing.assert_allclose(sequences.contexts["half"][0], expected.reshape(-1, 8).mean(axis=1), rtol=1e-5)
    text = shown(evaluation_table(summary))
    assert "half" in text
    assert f"{values['half_ppl_at_20xW']:,.2f}" in text
    assert "half beyond W" in shown(whole_split_table([summary]))
    assert find(record)["winner"].rows[-1]["half/full"].startswith(f"{values['half_ratio_at_20xW']:.3f} [")
    assert "half" in {row["context"] for row in find(record)["crossover_position"].rows}


@pytest.mark.usefixtures("fifth")
def test_runs_are_compared_in_the_fifth_context(make_run):
    comparison = compare([make_run("one"), make_run("other", seed=1)])
    assert {(row["run"], row["context"]) for row in comparison.paired} >= {("one", "half"), ("other", "half")}
    (row,) = [row for row in comparison.paired if (row["run"], row["context"]) == ("other", "half")]
    assert "[" in row["20xW"]


@pytest.mark.usefixtures("fifth")
def test_the_fifth_context_can_win(make_run):
    measured = make_run("run").evaluations[-1].summary
    sure, unsure, ahead = (1.1, 1.05, 1.2), (1.1, 0.9, 1.2), (0.8, 0.75, 0.85)

    def with_ratios(half):
        parts = {"": sure, "sw_aligned_": sure, "reset_": sure, "half_": half}
        names = ("ratio_at_20xW", "ratio_ci_low_at_20xW", "ratio_ci_high_at_20xW")
        ratios = {
            f"{part}{name}": value for part, values in parts.items() for name, value in zip(names, values, strict=True)
        }
        return measured.with_values(num_documents=1, num_sequences=64, **ratios)

    winners = [name_winner(ratios_of_summary(with_ratios(half), 20)) for half in (sure, unsure, ahead)]
    assert winners == ["full", "none", "half"]
    rows = [next(line for line in shown(evaluation_table(with_ratios(half))).splitlines() if "20 x W" in line)
            for half in (sure, unsure, ahead)]  # fmt: skip
    assert [row.split("│")[-2].strip() for row in rows] == ["full", "no difference", "half"]


def test_older_runs_stay_complete_and_give_the_same_findings(monkeypatch):
    before, curves = find(find_run(GOLDEN)), load_curves(find_run(GOLDEN))
    add_the_fifth(monkeypatch)
    assert find(find_run(GOLDEN)) == before
    assert [item.to_dict() for item in load_curves(find_run(GOLDEN))] == [item.to_dict() for item in curves]
    assert "half" not in shown(evaluation_table(load(find_run(GOLDEN)).evaluations[-1].summary))


@pytest.mark.parametrize("name", LEGACY)
def test_runs_of_the_earlier_system_give_the_same_findings(shared, monkeypatch, name):
    run = find_run(shared / "data" / "legacy_runs" / name)
    before = find(run)
    add_the_fifth(monkeypatch)
    assert find(run) == before
