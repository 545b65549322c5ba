"""Several models in one figure: names at the ends of their lines, without the parts that all names share."""

from __future__ import annotations

import pytest

from tests.report.made_up import changed, evaluation_at, new_context, texts
from tttkit.report.figures.models import plot_models
from tttkit.results.contexts import CONTEXTS


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a/final_model", "b/final_model"], ["a", "b"]),
        (["a/best_model", "a/final_model"], ["a/best_model", "a/final_model"]),
        (["final_model", "a/final_model"], ["final_model", "a/final_model"]),
        (["a/final_model"], ["a/final_model"]),
    ],
)
def test_names_leave_out_the_parts_that_all_share(tmp_path, names, shown):
    curves = evaluation_at(0.5).curves()
    words = texts(plot_models([(name, curves) for name in names], tmp_path / "models.svg"))
    assert [word for word in words if word in shown] == shown
    assert f"{shown[0]}: full context and the same weights under windows" in words
    assert {"full", "sw", "sw_aligned", "reset"} <= set(words)
    assert "Full context of every model, averaged over neighboring chunks" in words


def test_a_new_context_needs_only_its_entry_in_the_table(tmp_path, monkeypatch):
    curves = evaluation_at(0.5).curves()
    monkeypatch.setitem(CONTEXTS, "decayed", new_context())
    assert "decayed" not in texts(plot_models([("a", curves)], tmp_path / "before.svg")), "not measured here"
    more = changed(curves, decayed_mean_nll=curves.mean_nll("reset"))
    assert "decayed" in texts(plot_models([("a", more)], tmp_path / "after.svg"))
