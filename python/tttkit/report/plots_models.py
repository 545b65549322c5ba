"""Figure of several models of one protocol: each one's full context, and how the first fares under its own windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tttkit.report.curves import LABELS, perplexity
from tttkit.report.figure import CYCLE, GREY, LOOK, USUAL, save, thousands, value_axis

MODELS_NAME = "models"
_WINDOWED = ("sw", "sw_aligned", "reset")
_MOST_POINTS = 160
"""More points of a long curve are averaged, since neighbouring chunks of few sequences are mostly noise."""


def plot_models(named: list[tuple[str, dict[str, Any]]], path: Path) -> Path:
    """Full context of every model (top), windowed contexts of every one that learns as it reads (bottom).

    `named` are names with chunk_eval.json of the evaluations; PNG or SVG by the suffix of `path`. Returns it.
    """
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6.4, 6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
        for index, (name, curves) in enumerate(named):
            colour, line = CYCLE[index % len(CYCLE)]
            _draw(top, curves, "full", label=name, color=colour, linestyle=line)
        name, curves = named[0]
        _draw(bottom, curves, "full", label="full", color=CYCLE[0][0], linestyle=CYCLE[0][1])
        for index, context in enumerate(_WINDOWED, start=1):
            colour, line = CYCLE[index]
            _draw(bottom, curves, context, label=context, color=colour, linestyle=line)
        top.set_title("Full context of every model", pad=16)
        bottom.set_title(f"{name}: full context and the same weights under windows")
        longest = max(item["ends"][-1] for _, item in named)
        for axes in (top, bottom):
            value_axis(axes, USUAL, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
            axes.set_ylabel("perplexity")
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.legend(loc="upper right", ncols=2)
            _mark(axes, int(curves["training_window"]), longest, names=axes is top)
        bottom.set_xlabel(
            f"position in the sequence (tokens, logarithmic; W = {curves['training_window']}, "
            f"{curves['num_sequences']} sequences)"
        )
        return save(figure, path)


def _draw(axes: Axes, curves: dict[str, Any], context: str, **look: Any) -> None:
    """A curve over positions, neighbouring chunks averaged where there are many; points where few are known."""
    ends, values = np.asarray(curves["ends"], dtype=np.float64), np.log(perplexity(curves, context))
    known = np.isfinite(values)
    if not known.any():
        return
    if not known.all():
        axes.plot(ends[known], np.exp(values[known]), "o", markersize=4, color=look["color"], label=look["label"])
        return
    if ends.size > _MOST_POINTS:
        # Equal shares of the logarithm: the first positions, where curves fall, keep all their points.
        groups = np.unique(
            np.linspace(0, _MOST_POINTS, ends.size, endpoint=False).astype(np.int64), return_inverse=True
        )[1]
        counts = np.bincount(groups)
        ends, values = (np.bincount(groups, weights=each) / counts for each in (ends, values))
    axes.plot(ends, np.exp(values), linewidth=1.4, **look)


def _mark(axes: Axes, window: int, longest: int, *, names: bool) -> None:
    """Positions m x W on a logarithmic axis, with their names above the upper panel."""
    axes.set_xscale("log")
    marked = [multiple for multiple in LABELS if multiple * window <= longest]
    axes.xaxis.set_major_locator(FixedLocator([multiple * window for multiple in marked]))
    axes.xaxis.set_major_formatter(thousands if marked else FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    for multiple in marked:
        axes.axvline(multiple * window, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)
        if names:
            axes.annotate(
                f"{multiple}W", (multiple * window, 1.0), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=GREY,
            )  # fmt: skip
