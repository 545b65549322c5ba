"""`tttkit bench train` and `tttkit bench inference`."""

from __future__ import annotations

import json

from .conftest import tttkit

QUICK = ("bench", "train", "--preset", "quick", "--batch-size", 1, "--window", 16, "--rounds", 1, "--no-compile")


def test_training_is_shown_beside_a_transformer():
    result = tttkit(*QUICK)
    assert result.code == 0, result.err
    for part in ("ttt-linear", "transformer", "steps/s", "MFU", "peak memory", "forward", "optimizer"):
        assert part in result.out
    figures = json.loads(tttkit(*QUICK, "--json").out)
    assert [row["name"] for row in figures["contestants"]] == ["ttt-linear", "transformer"]
    assert figures["step_seconds"] > 0


def test_decoding_is_shown_by_context(finished):
    result = tttkit("bench", "inference", finished / "best_model", "--context", 8, "--context", 64, "--tokens", 2)
    assert result.code == 0, result.err
    assert result.out.count("ttt-linear") == result.out.count("transformer") == 2


def test_wrong_options():
    assert "unknown precision `fp8`" in tttkit(*QUICK, "--precision", "fp8").error
    assert "unknown preset `none`" in tttkit("bench", "train", "--preset", "none").error
    assert "no ttt.py at nowhere" in tttkit(*QUICK, "--official", "nowhere").error
