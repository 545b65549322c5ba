"""Figure: how much better models know a passage that they read d tokens ago, by d."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttkit.report.figures.style import CYCLE, GREY, draw_interval, grid, save, sheet, thousands
from tttkit.results.recall import Recall


def plot_recall(results: Sequence[tuple[str, Recall]], path: Path) -> Path:
    """Draw the drop of the NLL by distance with 95 % intervals, a line per model, and return `path`."""
    with sheet(3.6) as figure:
        axes = figure.subplots()
        axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=1)
        for index, (_, result) in enumerate(results):
            x, y, low, high = np.array([(row.distance, row.drop, row.low, row.high) for row in result.rows]).T
            draw_interval(axes, x, y, (low, high), CYCLE[index % len(CYCLE)])
        for index, (name, _) in enumerate(results):
            colour, line = CYCLE[index % len(CYCLE)]
            axes.plot([], [], color=colour, linestyle=line, label=name)
        axes.legend()
        axes.xaxis.set_major_formatter(thousands)
        axes.set_xlabel("tokens between the two copies")
        axes.set_ylabel("drop of NLL on the second copy (nats)")
        grid(axes)
        return save(figure, path)
