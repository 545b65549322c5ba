"""Several models in one figure: names at the ends of their lines, without what all names share."""

from __future__ import annotations

import pytest

from tests.report.figures.test_position import evaluation_at, texts
from tttkit.report.figures.models import plot_models


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a/final_model", "b/final_model"], ["a", "b"]),
        (["a/best_model", "a/final_model"], ["a/best_model", "a/final_model"]),
        (["final_model", "a/final_model"], ["final_model", "a/final_model"]),
        (["a/final_model"], ["a/final_model"]),
    ],
)
def test_names_without_what_they_share(tmp_path, names, shown):
    curves = evaluation_at(0.5).curves()
    words = texts(plot_models([(name, curves) for name in names], tmp_path / "models.svg"))
    assert [word for word in words if word in shown] == shown
    assert f"{shown[0]}: full context and the same weights under windows" in words
    assert {"full", "sw", "sw_aligned", "reset"} <= set(words)
    assert "Full context of every model, neighbouring chunks averaged" in words
