"""Figure of several models of one protocol: each one's full context, and how the first fares under its own windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from tttkit.report.curves import LABELS, perplexity
from tttkit.report.figures.style import (
    CYCLE,
    GREY,
    LOOK,
    STYLES,
    USUAL,
    label_ends,
    save,
    short_name,
    thousands,
    value_axis,
)

MODELS_NAME = "models"
_MOST_POINTS = 60
"""More points of a long curve are averaged, since neighbouring chunks of few sequences are mostly noise."""


def plot_models(named: list[tuple[str, dict[str, Any]]], path: Path) -> Path:
    """Full context of every model (top), the first one's own windowed contexts (bottom).

    `named` are names with chunk_eval.json of the evaluations; PNG or SVG by the suffix of `path`. Returns it.
    """
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6.4, max(6, 1.7 + 0.4 * len(named))), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
        names = _distinct([name for name, _ in named])
        models = [
            (_draw(top, curves, "full", CYCLE[index % len(CYCLE)]), names[index], CYCLE[index % len(CYCLE)][0])
            for index, (_, curves) in enumerate(named)
        ]
        curves = named[0][1]
        contexts = [
            (_draw(bottom, curves, name, (colour, line)), name, colour) for name, (colour, line, _) in STYLES.items()
        ]
        averaged = ", neighbouring chunks averaged" if len(curves["ends"]) > _MOST_POINTS else ""
        top.set_title(f"Full context of every model{averaged}", pad=16)
        bottom.set_title(f"{names[0]}: full context and the same weights under windows")
        longest = max(item["ends"][-1] for _, item in named)
        for axes in (top, bottom):
            value_axis(axes, USUAL, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
            axes.set_ylabel("perplexity")
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
            _mark(axes, int(curves["training_window"]), longest, names=axes is top)
            label_ends(axes, models if axes is top else contexts)
        bottom.set_xlabel(
            f"position in the sequence (tokens, logarithmic; W = {curves['training_window']}, "
            f"{curves['num_sequences']} sequences)"
        )
        return save(figure, path)


def _distinct(names: list[str]) -> list[str]:
    """Names without the last folders that all share: of `a/final_model` and `b/final_model`, `a` and `b`."""
    parts = [name.split("/") for name in names]
    while len(names) > 1 and min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    return [short_name("/".join(part)) for part in parts]


def _draw(axes: Axes, curves: dict[str, Any], context: str, look: tuple[str, Any]) -> float:
    """A curve over positions, neighbouring chunks averaged where there are many; points where few are known.

    Returns its last value, NaN where nothing is known.
    """
    colour, line = look
    ends, values = np.asarray(curves["ends"], dtype=np.float64), np.log(perplexity(curves, context))
    known = np.isfinite(values)
    if not known.any():
        return np.nan
    if not known.all():
        axes.plot(ends[known], np.exp(values[known]), "o", markersize=4, color=colour)
        return float(np.exp(values[known][-1]))
    if ends.size > _MOST_POINTS:
        # Equal shares of the logarithm, as the axis has: the first positions keep a point each.
        edges = np.geomspace(ends[0], ends[-1], _MOST_POINTS)
        _, groups = np.unique(np.digitize(ends, edges[1:-1]), return_inverse=True)
        counts = np.bincount(groups)
        ends, values = (np.bincount(groups, weights=each) / counts for each in (ends, values))
    axes.plot(ends, np.exp(values), linestyle=line, color=colour, linewidth=1.4)
    return float(np.exp(values[-1]))


def _mark(axes: Axes, window: int, longest: int, *, names: bool) -> None:
    """Positions m x W on a logarithmic axis, with their names above the upper panel."""
    axes.set_xscale("log")
    marked = [multiple for multiple in LABELS if multiple * window <= longest]
    axes.xaxis.set_major_locator(FixedLocator([multiple * window for multiple in marked]))
    axes.xaxis.set_major_formatter(thousands)
    axes.xaxis.set_minor_locator(NullLocator())
    for multiple in marked:
        axes.axvline(multiple * window, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)
        if names:
            axes.annotate(
                f"{multiple}W", (multiple * window, 1.0), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=GREY,
            )  # fmt: skip
