"""Inner loss: a line per record, and the gain as the share that learning removes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.report.made_up import line_colours, texts
from tttkit.report.figures.inner import plot_inner_loss


def inner_records(steps, length=48):
    """Make inner losses in which each mini-batch of 16 starts from what the earlier ones learned."""
    records = []
    for step in steps:
        before = 0.5 * (1 + np.arange(length) // 16) ** -0.5
        after = before / (1 + 0.01 * step)
        records.append({"step": step, "inner_loss_before": before.tolist(), "inner_loss_after": after.tolist()})
    return records


@pytest.mark.parametrize("steps", [[100], range(100, 5001, 100)])
def test_inner_loss_has_a_line_per_record_and_equal_bytes(tmp_path, steps):
    metrics = [{"step": 1, "loss": 3.0}, *inner_records(steps)]  # most steps are logged without the inner loss
    one, other = (plot_inner_loss(metrics, tmp_path / f"{name}.svg", mini_batch=16) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert len(line_colours(one)) == 2 + len(steps), "after and its legend, a gain per record; before is dashed"
    words = texts(one)
    assert f"Mean inner loss ½|f(k) − v|² at step {max(steps):,}" in words
    assert "position in the window (tokens; dotted: inner mini-batches of 16)" in words
    assert ("training step" in words) == (len(steps) > 1)


def test_gain_is_the_share_that_learning_removes(tmp_path):
    """Learning removes half of the loss at every position, so the axis of the gain ends at 50 %."""
    record = {"step": 100, "inner_loss_before": [2.0, 4.0, "NaN", 0.0], "inner_loss_after": [1.0, 2.0, 1.0, 0.0]}
    words = texts(plot_inner_loss([record], tmp_path / "inner.svg"))
    assert {"0 %", "50 %"} <= set(words)
    assert "60 %" not in words


def test_a_model_without_an_inner_loop_has_no_such_figure(tmp_path):
    assert plot_inner_loss([{"step": 100, "loss": 3.0}], tmp_path / "inner.png") is None
