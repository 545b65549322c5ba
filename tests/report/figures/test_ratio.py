"""Ratios by position and over training, for one step and for so many steps that running means are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.report.made_up import changed, evaluation_at, new_context, texts
from tttkit.report.figures.ratio import _running_mean, plot_ratio_by_position, plot_ratio_by_step
from tttkit.results.contexts import CONTEXTS
from tttkit.results.summary import Summary


def summaries(count):
    """Make summaries with a ratio above 1 at one position and below 1 at another."""
    ratios = {"ratio_at_2xW": 1.2, "ratio_at_20xW": 0.8}
    return [Summary({"step": 10 * index, **ratios}) for index in range(count)]


def test_a_single_step_has_its_positions_side_by_side(tmp_path):
    words = texts(plot_ratio_by_step(summaries(1), tmp_path / "ratio.svg"))
    assert {"2 x W", "20 x W", "position in the sequence", "Ratio at each position at step 0"} <= set(words)
    assert "training step" not in words
    nameless = [summaries(1)[0].with_values(step=None)]  # as in a file of the earlier system
    assert "Ratio at each position" in texts(plot_ratio_by_step(nameless, tmp_path / "ratio.svg"))


@pytest.mark.parametrize(
    ("count", "note"), [(100, ""), (101, ", means of 2 evaluations"), (501, ", means of 10 evaluations")]
)
def test_many_evaluations_are_averaged_and_the_title_says_so(tmp_path, count, note):
    words = texts(plot_ratio_by_step(summaries(count), tmp_path / "ratio.svg"))
    assert f"Ratio over training at each position{note}" in words


def test_the_running_mean_is_geometric_and_leaves_out_unknown_values():
    averaged = _running_mean(np.array([1.0, 4.0, np.nan, 2.0, 8.0]), 3)
    assert averaged == pytest.approx([2, 2, np.nan, 4, 4], nan_ok=True)
    assert _running_mean(np.array([0.5, np.nan]), 1) == pytest.approx([0.5, np.nan], nan_ok=True)


def test_the_ratio_by_position_begins_at_the_window(tmp_path):
    """Up to W all contexts are equal by construction, so only ratios beyond W are drawn."""
    curves = evaluation_at(0.0, exact=True).curves()

    def drawn(name, first, last):
        ratios = [first if end < 64 else last if end == curves.ends[-1] else 1.0 for end in curves.ends]
        return plot_ratio_by_position(changed(curves, reset_ratio=ratios), tmp_path / f"{name}.svg").read_bytes()

    assert drawn("one", 1.0, 1.0) == drawn("within", 9.0, 1.0)
    assert drawn("one", 1.0, 1.0) != drawn("beyond", 1.0, 9.0)


def test_a_new_context_needs_only_its_entry_in_the_table(tmp_path, monkeypatch):
    curves = evaluation_at(0.8).curves()
    assert "decayed" not in texts(plot_ratio_by_position(curves, tmp_path / "before.svg"))
    monkeypatch.setitem(CONTEXTS, "decayed", new_context())
    more = changed(curves, decayed_ratio=curves.ratio("reset"))
    assert "decayed" in texts(plot_ratio_by_position(more, tmp_path / "after.svg"))
