"""Figure: what models remember, by the tokens in between or by the length of the example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tttkit.report.figures.axes import grid, thousands
from tttkit.report.figures.recall_text import column_width, length_axis, plot_text_tasks, share_axis
from tttkit.report.figures.style import CYCLE, GREY, draw_interval, legend_below, save, sheet
from tttkit.results.recall import Recall

_HEIGHT = 3.6
Line = tuple[str, NDArray[np.float64]]
"""A label, and x, y, low and high (4, K) of the points."""


def plot_recall(results: Sequence[tuple[str, Recall]], path: Path) -> Path:
    """Draw the score with 95 % intervals, and return `path`.

    For second-copy it is the drop of the NLL by distance, a line per model. For synthetic tasks it is the accuracy by
    length, a panel per number of items, and a line per model and context. For questions about a text see
    `plot_text_tasks`.
    """
    first = results[0][1]
    if first.is_about_text:
        return plot_text_tasks(results, path)
    return _plot_copies(results, path) if first.is_second_copy else _plot_answers(results, path)


def _plot_copies(results: Sequence[tuple[str, Recall]], path: Path) -> Path:
    with sheet(_HEIGHT) as figure:
        axes = figure.subplots()
        axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        _draw(axes, [(name, _points(result.rows, "distance", "drop")) for name, result in results])
        axes.xaxis.set_major_formatter(thousands)
        axes.set_xlabel("tokens between the two copies")
        axes.set_ylabel("drop of NLL (nats)")
        legend_below(figure, [axes])
        return save(figure, path)


def _plot_answers(results: Sequence[tuple[str, Recall]], path: Path) -> Path:
    sizes = sorted({row["size"] for _, result in results for row in result.rows})
    with sheet(_HEIGHT, column_width(len(sizes))) as figure:
        panels = figure.subplots(1, len(sizes), sharey=True, sharex=True, squeeze=False)[0]
        for axes, size in zip(panels, sizes, strict=True):
            _draw(axes, [line for name, result in results for line in _lines(name, result, size)])
            if size:
                axes.set_title(f"{size} item{'s' if size > 1 else ''}")
            length_axis(axes)
            axes.set_xlabel("tokens of the example")
        share_axis(panels[0], "share of answers given")
        legend_below(figure, panels)
        return save(figure, path)


def _lines(name: str, result: Recall, size: int) -> list[Line]:
    """Return the lines of a model for a number of items, one per context."""
    rows = [row for row in result.rows if row["size"] == size]
    contexts = dict.fromkeys(row["context"] for row in result.rows)
    return [
        (
            name if context == "full" else f"{name} {context}",
            _points([row for row in rows if row["context"] == context], "length", "accuracy"),
        )
        for context in contexts
    ]


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> NDArray[np.float64]:
    return np.array([[row[key] for row in rows] for key in (x, y, "low", "high")], dtype=np.float64)


def _draw(axes: Axes, lines: Sequence[Line]) -> None:
    for index, (label, (x, y, low, high)) in enumerate(lines):
        style = CYCLE[index % len(CYCLE)]
        if x.size:
            draw_interval(axes, x, y, (low, high), style)
        axes.plot([], [], color=style[0], linestyle=style[1], label=label)
    grid(axes)
