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
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
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
thousands = FuncFormatter(lambda value, _: f"{value:,.0f}")
digits = FuncFormatter(lambda value, _: f"{value:,.4g}" if value < 10 else f"{value:,.0f}")


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
_MOST_RATIO = 1e6
"""Ratios beyond it lie outside the axes."""
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


def grid(axes: Axes) -> None:
    """Draw pale horizontal lines behind the curves."""
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def mark(axes: Axes, position: float) -> None:
    """Draw a dotted vertical line behind the curves."""
    axes.axvline(position, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)


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


def value_axis(axes: Axes, scales: Scales, subs: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Give the y axis plain numbers, or say that no value is finite, because a logarithm needs a range."""
    if not any(np.isfinite(np.asarray(line.get_ydata(), dtype=np.float64)).any() for line in axes.lines):
        axes.set_ylim(1, 10)
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=GREY)
    if scales.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=subs, numticks=30))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(digits)


def ratio_axis(axes: Axes) -> None:
    """Give ratios a logarithmic y axis, so that 2 and 1/2 are equally far from 1, and draw a line at 1."""
    axes.axhline(1.0, color=GREY, linewidth=0.8, zorder=1)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = max(min(low, 0.98), 1 / _MOST_RATIO), min(max(high, 1.02), _MOST_RATIO)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(ratio_ticks(low, high)))
    axes.yaxis.set_major_formatter(digits)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    grid(axes)


def ratio_ticks(low: float, high: float) -> list[float]:
    """Return round ratios between `low` and `high`, no more than an axis has room for."""
    if high / low > 30:
        steps = [base * 10.0**power for power in range(-6, 7) for base in (1, 3)]
    elif high / low > 3:
        steps = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10]
    else:
        step = 0.1 if high / low >= 1.35 else 0.05 if high / low >= 1.12 else 0.02
        steps = [round(1 + step * index, 2) for index in range(-round(0.9 / step), round(2 / step))]
    return [step for step in steps if low <= step <= high]


def log_x(axes: Axes) -> None:
    """Give the x axis a logarithmic scale with ticks at 1, 2 and 5 times the powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())


def step_axis(axis: Axis, steps: Floats) -> None:
    """Put ticks at whole steps, none before the first one; a single step gets the only tick."""
    ticks = MaxNLocator(6, integer=True).tick_values(steps[0], steps[-1]) if steps.size > 1 else steps
    axis.set_major_locator(FixedLocator([tick for tick in ticks if steps[0] <= tick <= steps[-1]]))
    axis.set_major_formatter(thousands)


def step_x(axes: Axes, steps: Floats, scales: Scales) -> None:
    """Show training steps along x."""
    step_axis(axes.xaxis, steps)
    if scales.log_x and steps.size > 1 and steps.max() > 0:
        log_x(axes)
        axes.xaxis.set_major_formatter(thousands)


def position_axis(axes: Axes, scales: Scales, last: float) -> None:
    """Show positions 1 … `last` along x."""
    if scales.log_x:
        log_x(axes)
        axes.set_xlim(right=last * 1.03)
    else:
        axes.set_xlim(0, last * 1.01)
    axes.xaxis.set_major_formatter(thousands)


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
