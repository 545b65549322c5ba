"""Figure of the inner loop: the loss of the fast weights on each token before and after they learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from tttkit.analyze.curves import floats
from tttkit.report.figures.axes import grid, mark, position_axis, value_axis
from tttkit.report.figures.steps import many_lines, step_bar
from tttkit.report.figures.style import GREY, USUAL, Floats, Scales, save, sheet

_BEFORE, _AFTER = "inner_loss_before", "inner_loss_after"


def plot_inner_loss(
    metrics: Sequence[dict[str, Any]], path: Path, scales: Scales = USUAL, *, mini_batch: int | None = None
) -> Path | None:
    """Draw the inner loss by position at the last record, above the gain, the share by which learning reduces it.

    Both are means over heads and layers. `mini_batch` is the size of an inner mini-batch in tokens; its borders are
    marked. Return None if the records hold no inner loss, for example for a model without an inner loop.
    """
    records = [record for record in metrics if record.get(_BEFORE) and record.get(_AFTER)]
    if not records:
        return None
    length = len(records[-1][_BEFORE])
    records = [record for record in records if len(record[_BEFORE]) == len(record[_AFTER]) == length]
    steps = [int(record["step"]) for record in records]
    position = np.arange(1, length + 1, dtype=np.float64)
    with sheet(5.2) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        _draw_loss(top, position, records[-1])
        value_axis(top, scales, subs=(1.0, 2.0, 3.0, 5.0))
        for record, line_style in zip(records, many_lines(steps), strict=True):
            bottom.plot(position, _gain(floats(record[_BEFORE]), floats(record[_AFTER])), **line_style)
        bottom.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        size = mini_batch or length
        for axes in (top, bottom):
            grid(axes)
            for border in range(size, length, size):
                mark(axes, border + 0.5)
        position_axis(bottom, scales, length)
        # The legend needs room.
        top.set_ylim(top=top.get_ylim()[1] * (1.6 if scales.log_y else 1.2))
        top.set_title(f"Mean inner loss ½|f(k) − v|² at step {steps[-1]:,}")
        top.set_ylabel("per feature")
        bottom.set_title("Inner-loop gain: share of the loss that learning removes")
        bottom.set_ylabel("gain")
        borders = f"; dotted: inner mini-batches of {size}" if size < length else ""
        bottom.set_xlabel(f"position in the window (tokens{borders})")
        if len(records) > 1:
            step_bar(figure, [top, bottom], steps)
        return save(figure, path)


def _draw_loss(axes: Axes, position: Floats, record: dict[str, Any]) -> None:
    before, after = floats(record[_BEFORE]), floats(record[_AFTER])
    alone: dict[str, Any] = {"marker": "o", "markersize": 4} if position.size == 1 else {}
    axes.plot(position, before, "--", color="#D55E00", linewidth=1.3, label="before its mini-batch", **alone)
    axes.plot(position, after, "-", color="#0072B2", linewidth=1.3, label="after learning up to it", **alone)
    axes.fill_between(position, after, before, color="#0072B2", alpha=0.12, linewidth=0)
    axes.legend(loc="upper right", ncols=2)


def _gain(before: Floats, after: Floats) -> Floats:
    return np.where(before > 0, (before - after) / np.where(before > 0, before, 1.0), np.nan)
