"""The table of contexts, and the lists and orders derived from it."""

from __future__ import annotations

import dataclasses

from tttkit.analyze.winner import PairedRatio, name_winner
from tttkit.evaluate.nll import SCORING
from tttkit.results.contexts import (
    CONTEXTS,
    compared_contexts,
    contexts_to_show,
    evaluation_order,
    labels_within,
    required_contexts,
    windowed_contexts,
)


def test_every_context_has_a_scoring_function():
    assert set(SCORING) == set(CONTEXTS)


def test_files_list_contexts_in_the_order_of_their_costs():
    """summary.json and chunk_eval.json of version 0.1.0 have this order; sw_aligned must be there before sw."""
    assert evaluation_order() == ["full", "reset", "sw_aligned", "sw"]


def test_dynamic_is_compared_and_evaluated_on_request_but_never_wins():
    assert evaluation_order(["dynamic"]) == ["full", "reset", "dynamic", "sw_aligned", "sw"]
    assert "dynamic" in compared_contexts()
    assert "dynamic" not in [*windowed_contexts(), *contexts_to_show(["full"])]
    won = {"low": 0.4, "high": 0.6, "document_low": None, "document_high": None, "num_documents": 1}
    lost = {**won, "low": 1.1, "high": 1.3}
    ratios = [PairedRatio(context=name, ratio=1.2, **lost) for name in windowed_contexts()]
    assert name_winner([*ratios, PairedRatio(context="dynamic", ratio=0.5, **won)]) == "full"


def test_names_and_keys_equal_those_in_the_files():
    assert {name: context.key for name, context in CONTEXTS.items()} == {
        "full": "ttt", "sw": "sw", "sw_aligned": "sw_aligned", "reset": "reset",
        "dynamic": "dynamic",
    }  # fmt: skip
    assert [CONTEXTS[name].ratio_key for name in windowed_contexts()] == ["", "sw_aligned_", "reset_"]


def test_an_optional_context_is_shown_if_it_was_measured(monkeypatch):
    extra = dataclasses.replace(CONTEXTS["reset"], name="extra", key="extra", is_required=False)
    monkeypatch.setitem(CONTEXTS, "extra", extra)
    assert windowed_contexts() == ["sw", "sw_aligned", "reset", "extra"]
    assert required_contexts() == ["sw", "sw_aligned", "reset"]
    assert contexts_to_show(["full", "sw"]) == ["full", "sw", "sw_aligned", "reset"]
    assert contexts_to_show(["full", "extra"]) == ["full", "sw", "sw_aligned", "reset", "extra"]


def test_labels_reach_as_far_as_the_text():
    assert labels_within(64, 1280) == [1, 2, 5, 10, 20]
    assert labels_within(64, 1279) == [1, 2, 5, 10]
    assert labels_within(64, 63) == []
