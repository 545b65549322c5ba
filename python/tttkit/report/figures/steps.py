"""A line per training step: colours, and the colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure

from tttkit.report.figures.axes import thousands


def many_lines(steps: Sequence[int]) -> list[dict[str, Any]]:
    """Return how to draw a line per step, from dark to bright, and thinner if there are many.

    The last line stands out, because readers look for it.
    """
    norm, colours = _step_colours(steps)
    # A single line need not be bright.
    shades = [colours(norm(step)) for step in steps] if len(steps) > 1 else [colours(0.3)]
    thin = float(np.clip(10 / len(steps), 0.5, 1.1))
    line_styles = [{"color": shade, "linewidth": thin, "markersize": 1.5 + thin} for shade in shades]
    line_styles[-1] |= {"linewidth": 1.8, "markersize": 4.5}
    return line_styles


def step_bar(figure: Figure, panels: Sequence[Axes], steps: Sequence[int]) -> None:
    """Add the colour bar of `many_lines`."""
    bar = figure.colorbar(ScalarMappable(*_step_colours(steps)), ax=panels, pad=0.02, aspect=40)
    bar.set_label("training step")
    bar.ax.yaxis.set_major_formatter(thousands)


def _step_colours(steps: Sequence[int]) -> tuple[PowerNorm, ListedColormap]:
    # Perplexity falls fastest at the start of training: the root gives the first evaluations distinct colours too.
    norm = PowerNorm(0.5, 0, max(1, *steps))
    # The brightest yellow of the map is too pale on white.
    return norm, ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
