"""`Curves`: the keys of version 0.1.0, unchanged through reading and writing; errors of damaged files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from tttkit.errors import DataError
from tttkit.results.contexts import CONTEXTS, windowed_contexts
from tttkit.results.curves import Curves

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run_0_1_0"
FILES = sorted(GOLDEN.glob("checkpoint_*/chunk_eval.json"))
PARTS = ("ratio_band_low", "ratio_band_high", "ratio", "ratio_low", "ratio_high")


def test_there_are_golden_files():
    assert len(FILES) == 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_reading_and_writing_keeps_every_byte(path, tmp_path):
    Curves.read(path).write(tmp_path / "chunk_eval.json")
    assert (tmp_path / "chunk_eval.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_keys_made_from_curves_are_those_of_version_0_1_0(path):
    golden, curves = json.loads(path.read_text()), Curves.read(path)
    order = ("full", "reset", "sw_aligned", "sw")
    keys = list(golden)
    facts = {key: golden[key] for key in keys[keys.index("training_window") : keys.index("centers")]}
    mean_nll = {name: curves.mean_nll(name) for name in order}
    ratios = {name: {part: curves.ratio(name, part) for part in PARTS} for name in order if name != "full"}
    made = Curves.new(facts, golden["centers"], curves.ends, mean_nll, ratios)
    assert list(made.to_dict().items()) == list(golden.items())


def test_the_values_of_the_curves():
    golden, curves = json.loads(FILES[-1].read_text()), Curves.read(FILES[-1], index=3, step=9, model="ttt-linear")
    assert (curves.index, curves.step, curves.model) == (3, 9, "ttt-linear")
    assert (curves.window, curves.num_sequences) == (golden["training_window"], golden["num_sequences"])
    assert curves.contexts() == [name for name, context in CONTEXTS.items() if context.is_required]
    assert curves.mean_nll("full") == golden["full_mean_nll"]
    assert None in curves.mean_nll("sw"), "computed at the labelled positions only"
    assert curves.get("sw_mode") == "positions"


def test_absent_contexts_and_contexts_without_a_known_value_are_not_listed():
    curves = Curves.new({"training_window": 8}, [4, 12], [8, 16], {"full": [1.0, math.inf], "sw": [None, None]}, {})
    assert curves.contexts() == ["full"]
    assert curves.mean_nll("full") == [1.0, None]
    assert curves.mean_nll("reset") == curves.ratio("sw") == []
    assert curves.num_sequences is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": []}, "holds no curves"),
        ({"training_window": None}, "holds no curves"),
        ({"reset_mean_nll": None}, "`reset_mean_nll` must list a value or null for each of the"),
        ({"full_mean_nll": [1.0]}, "`full_mean_nll` must list a value or null"),
        ({"schema_version": 2}, "schema version 2"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    path = tmp_path / "chunk_eval.json"
    path.write_text(json.dumps({**json.loads(FILES[0].read_text()), **change}))
    with pytest.raises(DataError, match=message):
        Curves.read(path)


def test_an_optional_context_may_be_missing_but_not_damaged(tmp_path, monkeypatch):
    extra = dataclasses.replace(CONTEXTS["reset"], name="extra", key="extra", is_required=False)
    monkeypatch.setitem(CONTEXTS, "extra", extra)
    assert "extra" in windowed_contexts()
    assert Curves.read(FILES[0]).contexts() == ["full", "sw", "sw_aligned", "reset"]
    path = tmp_path / "chunk_eval.json"
    path.write_text(json.dumps({**json.loads(FILES[0].read_text()), "extra_mean_nll": [1.0]}))
    with pytest.raises(DataError, match="`extra_mean_nll` must list"):
        Curves.read(path)
