"""Figure: share of right answers of models in a synthetic task, by the length of the examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttkit.report.figures.style import CYCLE, draw_interval, grid, log_x, save, sheet, thousands
from tttkit.results.recall import TaskRecall


def plot_accuracy(results: Sequence[tuple[str, TaskRecall]], path: Path) -> Path:
    """Draw accuracy by length with 95 % intervals, a line per model, and return `path`."""
    with sheet(3.6) as figure:
        axes = figure.subplots()
        for index, (_, result) in enumerate(results):
            rows = [row for row in result.rows if row.size is None]
            x, y, low, high = np.array([(row.length, row.accuracy, row.low, row.high) for row in rows]).T
            draw_interval(axes, x, y, (low, high), CYCLE[index % len(CYCLE)])
        for index, (name, _) in enumerate(results):
            colour, line = CYCLE[index % len(CYCLE)]
            axes.plot([], [], color=colour, linestyle=line, label=name)
        axes.legend()
        log_x(axes)
        axes.xaxis.set_major_formatter(thousands)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("tokens of an example")
        axes.set_ylabel(f"share of right answers in {results[0][1].facts['task']}")
        grid(axes)
        return save(figure, path)
