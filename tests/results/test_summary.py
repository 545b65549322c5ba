"""`Summary`: the keys of version 0.1.0, unchanged through reading and writing; figures, ratios and missing values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tttkit.errors import DataError
from tttkit.results.contexts import CONTEXTS
from tttkit.results.figures import Figures, Ratio
from tttkit.results.summary import Summary

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run_0_1_0"
SUMMARIES = sorted(GOLDEN.glob("checkpoint_*/summary.json"))


def test_there_are_golden_files():
    assert len(SUMMARIES) == 4


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: path.parent.name)
def test_reading_and_writing_keeps_every_byte(path, tmp_path):
    Summary.read(path).write(tmp_path / "summary.json")
    assert (tmp_path / "summary.json").read_bytes() == path.read_bytes()


def test_reading_and_writing_all_summaries_keeps_every_byte(tmp_path):
    path = GOLDEN / "all_summaries.json"
    Summary.write_all(tmp_path / "all_summaries.json", Summary.read_all(path))
    assert (tmp_path / "all_summaries.json").read_bytes() == path.read_bytes()
    assert Summary.read_all(tmp_path / "none.json") == []


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: path.parent.name)
def test_the_keys_made_from_figures_are_those_of_version_0_1_0(path):
    """A summary made from the properties of another one has the same keys, values and order."""
    golden = json.loads(path.read_text())
    summary = Summary.read(path)
    order = ("full", "reset", "sw_aligned", "sw")
    figures = {name: figures_of(summary, name) for name in order}
    positions = {multiple: golden[f"x_pos_at_{multiple}xW"] for multiple in summary.labels()}
    keys = list(golden)
    facts = {key: golden[key] for key in keys[keys.index("training_window") : keys.index("ttt_ppl_corpus")]}
    before = {key: golden[key] for key in keys[: keys.index("schema_version")]}
    made = Summary.new(facts, figures, positions).with_values(**before)
    assert list(made.to_dict().items()) == list(golden.items())
    assert made == summary


def figures_of(summary: Summary, name: str) -> Figures:
    key = CONTEXTS[name].key
    spread = tuple(summary.value(f"{key}_ppl_{part}") for part in ("mean", "min", "max"))
    return Figures(
        perplexities={multiple: summary.perplexity(name, multiple) for multiple in summary.labels()},
        corpus=summary.corpus(name),
        spread=spread if CONTEXTS[name].has_spread else None,
        ratios={m: summary.ratio(name, m) for m in summary.labels()} if CONTEXTS[name].is_windowed else {},
    )


def test_the_facts_of_an_evaluation():
    summary = Summary.read(SUMMARIES[-1])
    golden = json.loads(SUMMARIES[-1].read_text())
    assert (summary.index, summary.step, summary.tokens) == (3, golden["step"], golden["tokens_seen"])
    assert (summary.window, summary.max_length) == (golden["training_window"], golden["eval_max_length"])
    assert (summary.num_sequences, summary.num_documents) == (golden["num_sequences"], golden["num_documents"])
    assert (summary.model, summary.selection_ppl) == (golden["model"], golden["selection_ppl"])
    assert (summary.labels(), summary.contexts()) == ([1, 2, 5, 10, 20], ["full", "sw", "sw_aligned", "reset"])
    assert summary.mini_batch_size is None
    assert summary.get("sw_mode") == "positions"


def test_the_ratio_of_the_earlier_system_is_the_quotient_of_its_perplexities():
    summary = Summary({"ttt_ppl_at_2xW": 8.0, "sw_ppl_at_2xW": 10.0, "ttt_ppl_at_5xW": None, "sw_ppl_at_5xW": 3.0})
    assert summary.ratio("sw", 2) == Ratio(value=1.25)
    assert summary.ratio("sw", 5) == summary.ratio("reset", 2) == Ratio(value=None)
    assert summary.contexts() == ["full", "sw"]
    assert summary.labels() == [2, 5]


def test_a_value_that_is_not_finite_is_unknown():
    """JSON spells it as a string."""
    summary = Summary({"ttt_ppl_at_1xW": "Infinity", "sw_ppl_at_1xW": math.nan, "selection_ppl": True, "step": 3.0})
    assert summary.perplexity("full", 1) is summary.perplexity("sw", 1) is summary.selection_ppl is None
    assert summary.step == 3


def test_a_difference_of_infinite_perplexities_is_null():
    wild = Figures(perplexities={1: math.inf}, corpus=None, spread=(math.inf, 1.0, math.inf))
    made = Summary.new({}, {"full": wild, "sw": wild}, {1: 8}).to_dict()
    assert made["improvement_at_1xW"] is made["improvement_mean"] is None


def test_new_keys_come_first_and_known_keys_keep_their_position():
    summary = Summary({"step": 1, "model": "sw"})
    assert list(summary.with_values(model="ttt", path="p").to_dict().items()) == [
        ("path", "p"), ("step", 1), ("model", "ttt"),
    ]  # fmt: skip
    assert summary == Summary({"step": 1, "model": "sw"}), "it is immutable"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected a JSON object, got list"),
        ('{"schema_version": 2}', "schema version 2, this tttkit reads up to 1"),
        ("{", "summary.json"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(DataError, match=message):
        Summary.read(tmp_path / "summary.json")


@pytest.mark.parametrize("text", ['{"step": 1}', "[3]"])
def test_a_list_of_anything_else_is_refused(tmp_path, text):
    (tmp_path / "all_summaries.json").write_text(text)
    with pytest.raises(DataError, match=r"all_summaries\.json holds no"):
        Summary.read_all(tmp_path / "all_summaries.json")
