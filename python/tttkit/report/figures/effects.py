"""Figure: what each value of a study does to the objective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttkit.report.figures.style import CYCLE, GREY, save, sheet
from tttkit.sweep.results import Effect


def plot_effects(effects: Sequence[Effect], objective: str, path: Path) -> Path:
    """Draw the ratio of each value to the first value of its factor with its 95 % interval, and return `path`."""
    with sheet(0.9 + 0.32 * len(effects)) as figure:
        axes = figure.subplots()
        axes.axvline(1.0, color=GREY, linewidth=0.8, zorder=1)
        for row, effect in enumerate(effects):
            low, high = effect.interval or (effect.ratio, effect.ratio)
            bars = np.maximum(0, [[effect.ratio - low], [high - effect.ratio]])
            colour, _ = CYCLE[0]
            axes.errorbar(effect.ratio, row, xerr=bars, fmt="o", color=colour, markersize=4, capsize=3, linewidth=1.2)
        axes.set_yticks(range(len(effects)), [effect.label for effect in effects])
        axes.set_ylim(len(effects) - 0.5, -0.5)
        axes.set_xlabel(f"ratio of {objective}")
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        return save(figure, path)
