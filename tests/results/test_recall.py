"""Figures of recall as texts: every figure stands below its own head."""

from __future__ import annotations

from tttkit.results.recall import Recall


def test_a_drop_stands_with_both_copies_and_both_intervals():
    row = {"distance": 1280, "first": 3.0, "second": 2.0, "drop": 1.0, "low": 0.5, "high": 1.5, "document_low": 0.25,
           "document_high": 1.75}  # fmt: skip
    assert Recall({"task": "second-copy", "rows": [row]}).table_rows() == [
        {"distance": "1,280", "first copy": "3.000", "second copy": "2.000", "drop": "1.000",
         "95 % interval": "0.500 … 1.500", "over documents": "0.250 … 1.750"}
    ]  # fmt: skip
    alone = Recall({"task": "second-copy", "rows": [{**row, "document_low": None, "document_high": None}]})
    assert alone.table_rows()[0]["over documents"] == "-"


def test_accuracy_and_exact_answers_have_their_own_intervals():
    row = {"length": 64, "size": 4, "context": "sw", "accuracy": 0.75, "low": 0.7, "high": 0.8, "exact": 0.25,
           "exact_low": 0.2, "exact_high": 0.3}  # fmt: skip
    (cells,) = Recall({"task": "mqar", "rows": [row]}).table_rows()
    assert list(cells.values()) == ["64", "4", "sw", "0.750", "0.700 … 0.800", "0.250", "0.200 … 0.300"]
    assert Recall({"task": "copy", "rows": [{**row, "size": 0}]}).table_rows()[0]["items"] == "-"


def test_nll_and_share_found_have_their_own_intervals():
    row = {"part": "needle", "length": 64, "depth": None, "nll": 11.5, "low": 11.0, "high": 12.0, "found": 0.5,
           "found_low": 0.25, "found_high": 0.75}  # fmt: skip
    figures = ["64", "11.500", "11.000 … 12.000", "0.500", "0.250 … 0.750"]
    for depth, first in ((None, "needle"), (0.25, "0.25")):
        (cells,) = Recall({"task": "x", "rows": [{**row, "depth": depth}], "nlls": []}).table_rows()
        assert list(cells.values()) == [first, *figures]
