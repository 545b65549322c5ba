"""What all figures share: sizes, colours, axes, and bytes that depend on nothing but the data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from tttkit import files

GREY = "0.4"
# Okabe and Ito's colours, told apart in every common form of colour blindness, and a line style each for greyscale.
STYLES = {
    "full": ("#0072B2", "-", "full: state carried from token 0"),
    "sw": ("#D55E00", "--", "sw: each token's own window of W"),
    "sw_aligned": ("#E69F00", "-.", "sw_aligned: windows on inner mini-batches"),
    "reset": ("#009E73", ":", "reset: fresh state every W tokens"),
}
CYCLE: tuple[tuple[str, Any], ...] = (
    ("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#E69F00", (0, (5, 1, 1, 1))),
    ("#56B4E9", (0, (3, 1))), ("#000000", (0, (1, 1))),
)  # fmt: skip
"""Colour and line style of the first, second … of things that have no fixed style."""
LOOK: Any = {
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "legend.fontsize": 8, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "savefig.dpi": 200,
    "svg.hashsalt": "tttkit",
}  # fmt: skip
"""Sizes for a figure 6 inches wide, so that it can still be read at half of that, a paper's column. The salt makes the
names inside an SVG depend on nothing but the data."""
_SMALLEST_GAP = 0.055
"""Between two labels at the ends of lines, as a share of the axes' height."""
thousands = FuncFormatter(lambda value, _: f"{value:,.0f}")
digits = FuncFormatter(lambda value, _: f"{value:,.4g}" if value < 10 else f"{value:,.0f}")


def save(figure: Figure, path: Path) -> Path:
    """Write the figure, without dates or versions in it, so that equal data give equal bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(buffer, format=kind, metadata=metadata)
    files.write_bytes(path, buffer.getvalue())
    return path


def log_y(axes: Axes, subs: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """A logarithmic y axis with plain numbers; a text where there is nothing to draw, since it needs a range."""
    if not any(np.isfinite(np.asarray(line.get_ydata(), dtype=np.float64)).any() for line in axes.lines):
        axes.set_ylim(1, 10)
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs, numticks=30))
    axes.yaxis.set_major_formatter(digits)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def ratio_y(axes: Axes) -> None:
    """A logarithmic axis for ratios, so that 2 and 1/2 are as far from 1, with a line at 1."""
    axes.axhline(1.0, color=GREY, linewidth=0.8, zorder=1)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = min(low, 0.98), max(high, 1.02)
    axes.set_ylim(low, high)
    steps = (
        (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if high / low > 3 else tuple(1 + 0.1 * n for n in range(-9, 20))
    )
    if high / low < 1.35:
        steps = tuple(1 + 0.02 * n for n in range(-20, 40)) if high / low < 1.12 else tuple(
            1 + 0.05 * n for n in range(-10, 20)
        )  # fmt: skip
    axes.yaxis.set_major_locator(FixedLocator([step for step in steps if low <= step <= high]))
    axes.yaxis.set_major_formatter(digits)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def step_axis(axis: Axis, steps: NDArray[np.float64]) -> None:
    """Ticks at whole steps; at the step itself where there is one alone."""
    axis.set_major_locator(FixedLocator([steps[0]]) if steps.size == 1 else MaxNLocator(6, integer=True))
    axis.set_major_formatter(thousands)


def label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) beside the right end of the axes, moved apart where they would touch."""
    known = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    if not known:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((0.0 if axes.get_xscale() == "linear" else 1.0, y))[1]) for y, _, _ in known]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + _SMALLEST_GAP)
    over = max(0.0, heights[-1] - 1.0)
    heights[-1] -= over
    for index in range(len(heights) - 2, -1, -1):
        heights[index] = min(heights[index], heights[index + 1] - _SMALLEST_GAP)
    for height, (_, text, colour) in zip(heights, known, strict=True):
        axes.annotate(
            text, (1.0, height), (4, 0), xycoords="axes fraction", textcoords="offset points",
            va="center", color=colour, fontsize=8,
        )  # fmt: skip
