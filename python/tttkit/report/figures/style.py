"""Common parts of all figures: sizes, colors, axes and curves. Equal data give equal bytes.

Only the modules in `figures/` import matplotlib, and only when something is drawn.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tttkit.report.figures.fonts import make_drawable
from tttkit.results.contexts import labels_within
from tttkit.results.curves import Curves
from tttkit.storage import files

Floats = NDArray[np.float64]
LineStyle = tuple[str, Any]
"""Colour and line style."""
GREY = "0.4"
CYCLE: tuple[LineStyle, ...] = (
    ("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#E69F00", (0, (5, 1, 1, 1))),
    ("#56B4E9", (0, (3, 1))), ("#000000", (0, (1, 1))),
)  # fmt: skip
"""Colors and line styles of things without fixed ones, such as runs, in drawing order."""
_SETTINGS: Any = {
    "font.size": 10.5, "axes.titlesize": 11, "axes.labelsize": 10.5, "legend.fontsize": 9.5,
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "savefig.dpi": 200, "svg.hashsalt": "tttkit", "text.parse_math": False,
}  # fmt: skip
"""Sizes for a figure 6 inches wide that is still readable at half that width, in a column of a paper. The salt makes
the identifiers inside an SVG depend on nothing but the data. A `$` in the name of a run is text, not mathematics."""
_LABEL_HEIGHT = 10.4 / 72
"""Height in inches of a label at the end of a line, including the gap to the next one."""

_MOST_COLUMNS = 3
"""Columns of a legend below a figure."""
_LEGEND_ROW = 0.2
"""Inches of a row of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scales:
    """How axes and curves are drawn."""

    log_x: bool = False
    """Whether positions, steps and tokens have a logarithmic axis, which cannot show step 0."""
    log_y: bool = True
    """Whether losses and perplexities have a logarithmic axis; ratios always have one."""
    smoothing: float | None = None
    """Number of logged steps that the smoothed training loss averages over; None: 2 % of the run."""


_ABOUT_EXTREMES = "Data has no positive values|Attempt to set non-positive|constrained_layout not applied"
"""Matplotlib's warnings about figures that are all 0 or extreme, which axes with logarithms cannot show."""
USUAL = Scales()


@contextmanager
def sheet(height: float, width: float = 6.0) -> Iterator[Figure]:
    """Yield an empty figure of this size in inches; draw and save it inside the block, where our settings apply."""
    # Values near the largest float64 overflow while they are scaled, and lie outside the axes anyway.
    overflow = np.errstate(over="ignore", invalid="ignore", divide="ignore")
    with style.context(["default", _SETTINGS]), overflow, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_ABOUT_EXTREMES)
        yield Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG or SVG, by the suffix of `path`, without dates or versions in it. Return `path`."""
    FigureCanvasAgg(figure)
    make_drawable(figure)
    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(buffer, format=kind, metadata=metadata)
    files.write_bytes(path, buffer.getvalue())
    return path


def legend_below(figure: Figure, panels: Sequence[Axes]) -> None:
    """Name the lines of panels that share their lines in one legend below them, where it covers none.

    It has as many columns as fit in the width of the figure, and three at most. The figure grows for further rows.
    """
    named = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    for columns in range(min(len(named), _MOST_COLUMNS), 0, -1):
        legend = figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    rows = -(-len(named) // columns)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * (rows - 1))


def multiples(curves: Curves) -> list[tuple[int, str]]:
    """Return position and name of each label m x W that the curves reach; none if the window is unknown."""
    window = curves.window
    return [(m * window, f"{m}W") for m in labels_within(window, curves.ends[-1])] if window > 0 else []


def draw_interval(axes: Axes, x: Floats, y: Floats, bounds: Sequence[Floats], line_style: LineStyle) -> None:
    """Draw a line with a band, or points with bars if only one or fewer than half of the values are known.

    `bounds` are the lower and the upper end of the interval, empty if there is none.
    """
    colour, line = line_style
    known = np.isfinite(y)
    low, high = (bound[known] for bound in bounds or (y, y))
    x, y = x[known], y[known]
    if known.mean() < 0.5 or y.size == 1:
        bars = np.maximum(0, np.stack([y - low, high - y]))
        axes.errorbar(x, y, bars, fmt="o", color=colour, markersize=3.5, capsize=2, linewidth=1, zorder=3)
    else:
        axes.plot(x, y, linestyle=line, color=colour, linewidth=1.3, zorder=3)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each (y, text, colour) beside the right end of the axes, moved apart if texts would touch."""
    known = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    if not known:
        return
    gap = _LABEL_HEIGHT * axes.figure.dpi / axes.get_window_extent().height
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((0.0 if axes.get_xscale() == "linear" else 1.0, y))[1]) for y, _, _ in known]
    # A value outside the axes is named at their edge.
    heights = [min(max(height, 0.0), 1.0) for height in heights]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    over = max(0.0, heights[-1] - 1.0)
    heights[-1] -= over
    for index in range(len(heights) - 2, -1, -1):
        heights[index] = min(heights[index], heights[index + 1] - gap)
    for height, (_, text, colour) in zip(heights, known, strict=True):
        axes.annotate(
            text, (1.0, height), (4, 0), xycoords="axes fraction", textcoords="offset points",
            va="center", color=colour, fontsize=9.5,
        )  # fmt: skip


def short_name(name: str) -> str:
    """Return a name that fits beside a line: its start and its end."""
    return name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"
