"""Figure of the inner loop: what the fast weights lose on each token before and after they learned from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from tttkit.report.curves import floats
from tttkit.report.figures.style import GREY, LOOK, USUAL, Scales, many_lines, position_axis, save, step_bar, value_axis

_BEFORE, _AFTER = "inner_loss_before", "inner_loss_after"


def plot_inner_loss(
    metrics: list[dict[str, Any]], path: Path, scales: Scales = USUAL, *, mini_batch: int | None = None
) -> Path | None:
    """Inner loss by position at the last record, over the share that learning takes off it along training.

    Both are means over heads and layers.
    `mini_batch`: tokens of an inner mini-batch, whose borders are marked. None where metrics.jsonl has no such records,
    as of a model without an inner loop.
    """
    records = [record for record in metrics if record.get(_BEFORE) and record.get(_AFTER)]
    if not records:
        return None
    length = len(records[-1][_BEFORE])
    records = [record for record in records if len(record[_BEFORE]) == len(record[_AFTER]) == length]
    position = np.arange(1, length + 1, dtype=np.float64)
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 5.2), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        steps = [int(record["step"]) for record in records]
        _draw_last(top, position, records[-1])
        for record, look in zip(records, many_lines(steps), strict=True):
            before, after = floats(record[_BEFORE]), floats(record[_AFTER])
            bottom.plot(position, _share(before, after), **look)
        bottom.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        value_axis(top, scales, subs=(1.0, 2.0, 3.0, 5.0))
        for axes in (top, bottom):
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
            for border in range(mini_batch or length, length, mini_batch or length):
                axes.axvline(border + 0.5, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)
        position_axis(bottom, scales, length)
        top.set_ylim(top=top.get_ylim()[1] * (1.6 if scales.log_y else 1.2))  # room for the legend
        top.set_title(f"Mean inner loss ½|f(k) − v|² at step {steps[-1]:,}")
        top.set_ylabel("per feature")
        bottom.set_title("Inner-loop gain: share that learning takes off it")
        bottom.set_ylabel("gain")
        borders = f"; dotted: inner mini-batches of {mini_batch}" if mini_batch and mini_batch < length else ""
        bottom.set_xlabel(f"position in the window (tokens{borders})")
        if len(records) > 1:
            step_bar(figure, [top, bottom], steps)
        return save(figure, path)


def _draw_last(axes: Axes, position: NDArray[np.float64], record: dict[str, Any]) -> None:
    before, after = floats(record[_BEFORE]), floats(record[_AFTER])
    alone: dict[str, Any] = {"marker": "o", "markersize": 4} if position.size == 1 else {}
    axes.plot(position, before, "--", color="#D55E00", linewidth=1.3, label="before its mini-batch", **alone)
    axes.plot(position, after, "-", color="#0072B2", linewidth=1.3, label="after learning up to it", **alone)
    axes.fill_between(position, after, before, color="#0072B2", alpha=0.12, linewidth=0)
    axes.legend(loc="upper right", ncols=2)


def _share(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(before > 0, (before - after) / np.where(before > 0, before, 1.0), np.nan)
