"""Figures of a diagnosis as texts: those of each label, means over layers."""

from __future__ import annotations

from tttkit.results.diagnose import Diagnosis

STATE = {
    "positions": [8, 16, 32], "layers": [0, 2], "norm": [[0.0, 1.0, 3.0], [0.0, 2.0, 5.0]],
    "distance": [[0.0, 1.0, 2.0], [0.0, 1.0, 4.0]], "unexplored": [[0.0, 0.0, 0.5], [0.0, 0.25, 1.0]],
}  # fmt: skip


def test_every_figure_is_that_of_its_label():
    memory = [
        {"label": 1, "effective": 7, "effective_low": None, "effective_high": None},
        {"label": 2, "effective": 1200, "effective_low": 1100, "effective_high": 1300},
    ]
    bands = [
        {"label": 1, "ppl": 10.0, "ppl_low": None, "ppl_high": None},
        {"label": 2, "ppl": 20.0, "ppl_low": 19.0, "ppl_high": 21.0, "key_ppl": 5.0, "key_ppl_low": 4.0,
         "key_ppl_high": 6.0, "key_tokens": 12},
    ]  # fmt: skip
    values = {"window": 16, "max_length": 32, "state": STATE, "memory": memory, "perplexity": bands}
    rows = [list(row.values()) for row in Diagnosis(values).table_rows()]
    assert rows == [
        ["1 x W", "1.5", "1.00", "12 %", "-", "-", "7", "10.00", "-", "-"],
        ["2 x W", "4.0", "3.00", "75 %", "-", "-", "1,200 [1,100, 1,300]", "20.00 [19.00, 21.00]", "5.00 [4.00, 6.00]",
         "12"],
    ]  # fmt: skip


def test_what_was_not_measured_is_a_dash():
    (row,) = Diagnosis({"window": 16, "max_length": 16}).table_rows()
    assert list(row.values()) == ["1 x W", *["-"] * 9]


def test_an_evaluator_that_finds_no_key_token_has_found_0_of_them():
    band = {"label": 1, "ppl": 10.0, "key_ppl": None, "key_tokens": 0}
    (row,) = Diagnosis({"window": 16, "max_length": 16, "perplexity": [band]}).table_rows()
    assert (row["ppl of key tokens"], row["key tokens"]) == ("-", "0")
