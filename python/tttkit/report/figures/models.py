"""Figure of several models under one protocol: the full context of each, and the windowed contexts of the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from tttkit.analyze.curves import floats, perplexity
from tttkit.report.figures.axes import grid, mark, thousands, value_axis
from tttkit.report.figures.style import CYCLE, GREY, USUAL, LineStyle, label_ends, save, sheet, short_name
from tttkit.results.contexts import CONTEXTS, labels_within
from tttkit.results.curves import Curves

MODELS_NAME = "models"
_MOST_POINTS = 60
"""Longer curves are averaged, because neighboring chunks of few sequences are mostly noise."""


def plot_models(named: Sequence[tuple[str, Curves]], path: Path) -> Path:
    """Draw the full context of every named model, and below it all contexts of the first model. Return `path`."""
    names = _distinct([name for name, _ in named])
    first = named[0][1]
    with sheet(max(6, 1.7 + 0.4 * len(named)), width=6.4) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
        line_styles = [CYCLE[index % len(CYCLE)] for index in range(len(named))]
        models = [
            (_draw(top, curves, "full", line_style), name, line_style[0])
            for name, line_style, (_, curves) in zip(names, line_styles, named, strict=True)
        ]
        contexts = [
            (_draw(bottom, first, name, (context.colour, context.line_style)), name, context.colour)
            for name, context in CONTEXTS.items()
        ]
        averaged = ", averaged over neighboring chunks" if len(first.ends) > _MOST_POINTS else ""
        top.set_title(f"Full context of every model{averaged}", pad=16)
        bottom.set_title(f"{names[0]}: full context and the same weights under windows")
        longest = max(curves.ends[-1] for _, curves in named)
        for axes, ends in ((top, models), (bottom, contexts)):
            value_axis(axes, USUAL, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
            axes.set_ylabel("perplexity")
            grid(axes)
            _mark_multiples(axes, first.window, longest, names=axes is top)
            label_ends(axes, ends)
        bottom.set_xlabel(
            f"position in the sequence (tokens, logarithmic; W = {first.window}, {first.num_sequences} sequences)"
        )
        return save(figure, path)


def _distinct(names: list[str]) -> list[str]:
    """Return names without the last folders that all share: `a/final_model` and `b/final_model` become `a` and `b`."""
    parts = [name.split("/") for name in names]
    while len(names) > 1 and min(map(len, parts)) > 1 and len({part[-1] for part in parts}) == 1:
        parts = [part[:-1] for part in parts]
    return [short_name("/".join(part)) for part in parts]


def _draw(axes: Axes, curves: Curves, context: str, line_style: LineStyle) -> float:
    """Draw a context as a line, averaged if it is long, or as points if only some chunks are known.

    Return its last value, NaN if nothing is known.
    """
    colour, line = line_style
    ends, values = floats(curves.ends), np.log(perplexity(curves, context))
    known = np.isfinite(values)
    if not known.any():
        return np.nan
    ends, values, known = _up_to_limit(ends, values, known)
    if not known.all():
        axes.plot(ends[known], np.exp(values[known]), "o", markersize=4, color=colour)
        return float(np.exp(values[known][-1]))
    if ends.size > _MOST_POINTS:
        # Groups of equal width on the logarithmic axis: the first positions keep a point each.
        edges = np.geomspace(ends[0], ends[-1], _MOST_POINTS)
        _, groups = np.unique(np.digitize(ends, edges[1:-1]), return_inverse=True)
        counts = np.bincount(groups)
        ends, values = (np.bincount(groups, weights=each) / counts for each in (ends, values))
    axes.plot(ends, np.exp(values), linestyle=line, color=colour, linewidth=1.4)
    return float(np.exp(values[-1]))


def _up_to_limit(
    ends: NDArray[np.float64], values: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Cut a curve where its last known value lies: a model with learned positions has none beyond them."""
    length = int(np.flatnonzero(known)[-1]) + 1
    return (ends[:length], values[:length], known[:length]) if known[:length].all() else (ends, values, known)


def _mark_multiples(axes: Axes, window: int, longest: int, *, names: bool) -> None:
    """Mark positions m x W on a logarithmic axis, with their names above the axes if `names`."""
    axes.set_xscale("log")
    labels = labels_within(window, longest)
    axes.xaxis.set_major_locator(FixedLocator([label * window for label in labels]))
    axes.xaxis.set_major_formatter(thousands)
    axes.xaxis.set_minor_locator(NullLocator())
    for label in labels:
        mark(axes, label * window)
        if names:
            axes.annotate(
                f"{label}W", (label * window, 1.0), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, color=GREY,
            )  # fmt: skip
