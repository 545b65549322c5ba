"""One rule names a winner: in tables, findings, comparisons and criteria alike, on ties too."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.analyze.test_contexts import planted
from tttkit.analyze import contexts, winner
from tttkit.analyze.compare import compare
from tttkit.analyze.winner import (
    RULE,
    PairedRatio,
    best_context,
    name_winner,
    ratios_of_summary,
    reference_wins,
)
from tttkit.results.contexts import CONTEXTS
from tttkit.results.figures import Figures, Ratio
from tttkit.results.summary import Summary
from tttkit_cli.views.tables import evaluation_table

SOURCES = Path(winner.__file__).resolve().parents[1]


def ratio(context, value, low, high, **fields):
    fields = {"document_low": None, "document_high": None, "num_documents": 3, **fields}
    return PairedRatio(context=context, ratio=value, low=low, high=high, **fields)


BETTER = [ratio(name, 1.1, 1.05, 1.2) for name in ("sw", "sw_aligned", "reset")]


def tied(context, step, generator):
    """Make NLL in which sw_aligned and reset have the same windows and are better than full and sw."""
    same = "reset" if context == "sw_aligned" else context
    seed = ["full", "sw", "reset"].index(same)
    return planted(lambda c, *_: -0.3 if c == "reset" else -0.1)(same, step, np.random.default_rng(seed))


def table_cell(summary: Summary, position: str) -> str:
    shown = io.StringIO()
    Console(file=shown, width=200).print(evaluation_table(summary))
    (row,) = [line for line in shown.getvalue().splitlines() if f" {position} " in line]
    return row.split("│")[-2].strip()


def test_a_tie_names_the_same_context_everywhere(make_run):
    """On a tie the cheaper one is named; `compare` once named sw_aligned while findings and tables named reset."""
    intervals = {
        f"{prefix}ratio_{part}at_20xW": value
        for prefix in ("", "sw_aligned_", "reset_")
        for part, value in (("", 0.75), ("ci_low_", 0.7), ("ci_high_", 0.8))
    }
    one, other = make_run([0, 100], tied, name="one", **intervals), make_run([0, 100], tied, name="other", **intervals)
    assert contexts.winners(one).rows[-1]["winner"] == "reset"
    assert contexts.policy(one).rows[-1]["use"] == "reset"
    summary = one.evaluations[-1].summary
    assert name_winner(ratios_of_summary(summary, 20)) == "reset"
    assert table_cell(summary, "20 x W") == "reset"
    comparison = compare([one, other])
    assert comparison.verdicts[0]["20xW"] == "reset of other better"
    assert comparison.end[0]["best windowed 20xW"].endswith("(reset)")


def test_rounding_does_not_break_a_tie():
    """Results in float32 differ in their last bits between batch shapes."""
    ratios = [ratio("sw_aligned", 0.9, 0.85, 0.92), ratio("reset", 0.9 * (1 + 1e-7), 0.85, 0.92)]
    assert name_winner(ratios) == name_winner(ratios[::-1]) == "reset"
    further = [ratio("sw_aligned", 0.9, 0.85, 0.92), ratio("reset", 0.901, 0.85, 0.92)]
    assert name_winner(further) == "sw_aligned"


def test_the_full_context_is_named_on_a_tie_with_windowed_ones():
    """At 1 x W all contexts of a run are equal; full needs no choice."""
    assert best_context({"reset": 3.0, "full": 3.0, "sw": 3.0, "sw_aligned": 3.0}) == "full"
    assert best_context({}) is None


def test_full_wins_only_against_every_required_context():
    assert name_winner(BETTER) == "full"
    for missing in range(3):
        assert name_winner(BETTER[:missing] + BETTER[missing + 1 :]) == "none"
    assert name_winner([]) == "none"
    assert name_winner([*BETTER[:2], ratio("reset", 1.1, 0.99, 1.2)]) == "none"


def test_full_must_beat_every_optional_context_that_was_measured(monkeypatch):
    extra = dataclasses.replace(CONTEXTS["reset"], name="extra", key="extra", is_required=False)
    monkeypatch.setitem(CONTEXTS, "extra", extra)
    assert name_winner(BETTER) == "full", "it was not measured"
    assert name_winner([*BETTER, ratio("extra", 1.1, 1.05, 1.2)]) == "full"
    assert name_winner([*BETTER, ratio("extra", 1.1, 0.99, 1.2)]) == "none"
    assert name_winner([*BETTER, ratio("extra", 0.9, 0.85, 0.92)]) == "extra"


def test_another_run_must_be_beaten_in_its_full_context_too():
    assert not reference_wins(BETTER, ("full", "sw", "sw_aligned", "reset"))
    assert reference_wins([*BETTER, ratio("full", 1.1, 1.05, 1.2)], ("full", "sw", "sw_aligned", "reset"))
    assert not reference_wins([*BETTER, ratio("full", 1.1, 0.99, 1.2)], ("full", "sw", "sw_aligned", "reset"))


@pytest.mark.parametrize(("num_documents", "winner_there"), [(9, "full"), (10, "none")])
def test_documents_decide_from_ten_on(num_documents, winner_there):
    fields = {"document_low": 0.9, "document_high": 1.3, "num_documents": num_documents}
    assert name_winner([*BETTER[:2], ratio("reset", 1.1, 1.05, 1.2, **fields)]) == winner_there


def test_ratios_without_an_interval_are_left_out():
    known, unknown = Ratio(value=1.1, low=1.05, high=1.2), Ratio(value=1.1)
    figures = {
        name: Figures(perplexities={2: 9.0}, corpus=9.0, ratios={2: each})
        for name, each in (("sw", known), ("sw_aligned", unknown), ("reset", known))
    }
    full = Figures(perplexities={2: 9.0}, corpus=9.0)
    summary = Summary.new({"num_documents": 4}, {"full": full, **figures}, {2: 120})
    ratios = ratios_of_summary(summary, 2)
    assert [(each.context, each.num_documents) for each in ratios] == [("sw", 4), ("reset", 4)]


def test_the_width_factor_is_written_once():
    """Only winner.py holds the number; RULE and every other text takes it from there."""
    places = [path.name for path in SOURCES.rglob("*.py") for _ in re.findall(r"\b1\.27\b", path.read_text())]
    assert places == ["winner.py"]
    assert "1.27" in RULE
