"""Lists of names and of positions in a sentence."""

from __future__ import annotations

from tttkit.analyze.phrases import listed, places


def test_lists():
    assert listed(["sw"]) == "sw"
    assert listed(["sw", "reset"]) == "sw and reset"
    assert listed(["sw", "sw_aligned", "reset"]) == "sw, sw_aligned and reset"


def test_positions():
    assert places([2]) == "2 x W"
    assert places([2, 5]) == "2 and 5 x W"
    assert places([2, 5, 10]) == "2, 5 and 10 x W"
