"""Figure: what models remember, by the tokens in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttkit.report.figures.recall_text import plot_text_tasks
from tttkit.report.figures.style import CYCLE, GREY, draw_interval, grid, save, sheet, thousands
from tttkit.results.recall import Recall

_MOST_LINES = 8


def plot_recall(results: Sequence[tuple[str, Recall]], path: Path) -> Path:
    """Draw the score with 95 % intervals, and return `path`.

    For second-copy it is the drop of the NLL by distance, a line per model; for other tasks the accuracy by length, a
    line per model, number of items and context, and for questions about a text see `plot_text_tasks`.
    """
    if results[0][1].is_about_text:
        return plot_text_tasks(results, path)
    is_second_copy = results[0][1].is_second_copy
    lines = [line for name, result in results for line in _lines(name, result)][:_MOST_LINES]
    with sheet(3.6) as figure:
        axes = figure.subplots()
        axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        for index, (name, points) in enumerate(lines):
            x, y, low, high = np.array(points, dtype=np.float64).T
            style = CYCLE[index % len(CYCLE)]
            draw_interval(axes, x, y, (low, high), style)
            axes.plot([], [], color=style[0], linestyle=style[1], label=name)
        axes.legend()
        axes.xaxis.set_major_formatter(thousands)
        axes.set_xlabel("tokens between the two copies" if is_second_copy else "tokens of the example")
        axes.set_ylabel("drop of NLL on the second copy (nats)" if is_second_copy else "share of answers given")
        grid(axes)
        return save(figure, path)


def _lines(name: str, result: Recall) -> list[tuple[str, list[tuple[float, ...]]]]:
    """Return the lines of a model: a label, and (x, y, low, high) of each point."""
    if result.is_second_copy:
        return [(name, [tuple(row[key] for key in ("distance", "drop", "low", "high")) for row in result.rows])]
    kinds = dict.fromkeys((row["size"], row["context"]) for row in result.rows)
    return [
        (
            " ".join([name, *([f"{size} items"] if size else []), *([context] if context != "full" else [])]),
            [
                tuple(row[key] for key in ("length", "accuracy", "low", "high"))
                for row in result.rows
                if (row["size"], row["context"]) == (size, context)
            ],
        )
        for size, context in kinds
    ]
