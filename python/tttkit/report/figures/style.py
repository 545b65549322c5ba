"""What all figures share: sizes, colours, axes, and bytes that depend on nothing but the data."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from tttkit.storage import files

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
    "font.size": 10.5, "axes.titlesize": 11, "axes.labelsize": 10.5, "legend.fontsize": 9.5,
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "savefig.dpi": 200, "svg.hashsalt": "tttkit",
}  # fmt: skip
"""Sizes for a figure 6 inches wide, so that it can still be read at half of that, a paper's column. The salt makes the
names inside an SVG depend on nothing but the data."""
_LABEL_HEIGHT = 10.4 / 72
"""Of a label at the end of a line, with the gap to the next, in inches."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scales:
    """How axes and curves are drawn."""

    log_x: bool = False
    """Positions, steps and tokens on a logarithmic axis; step 0 has no place there."""
    log_y: bool = True
    """Losses and perplexities on a logarithmic axis; ratios always are."""
    smoothing: float | None = None
    """Logged steps that the smoothed training loss looks back over; None: one in fifty of the run."""


USUAL = Scales()


def value_axis(axes: Axes, scales: Scales, subs: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """A y axis with plain numbers; a text where there is nothing to draw, since a logarithm needs a range."""
    if not any(np.isfinite(np.asarray(line.get_ydata(), dtype=np.float64)).any() for line in axes.lines):
        axes.set_ylim(1, 10)
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=GREY)
    if scales.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=subs, numticks=30))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(digits)


def ratio_y(axes: Axes) -> None:
    """A logarithmic axis for ratios, so that 2 and 1/2 are as far from 1, with a line at 1."""
    axes.axhline(1.0, color=GREY, linewidth=0.8, zorder=1)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = min(low, 0.98), max(high, 1.02)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(ratio_ticks(low, high)))
    axes.yaxis.set_major_formatter(digits)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def log_x(axes: Axes) -> None:
    """A logarithmic x axis with ticks at 1, 2 and 5 times the powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())


def step_axis(axis: Axis, steps: NDArray[np.float64]) -> None:
    """Ticks at whole steps, none before the first; at the step itself where there is one alone."""
    ticks = MaxNLocator(6, integer=True).tick_values(steps[0], steps[-1]) if steps.size > 1 else steps
    axis.set_major_locator(FixedLocator([tick for tick in ticks if steps[0] <= tick <= steps[-1]]))
    axis.set_major_formatter(thousands)


def step_x(axes: Axes, steps: NDArray[np.float64], scales: Scales) -> None:
    """Steps along x."""
    step_axis(axes.xaxis, steps)
    if scales.log_x and steps.size > 1 and steps.max() > 0:
        log_x(axes)
        axes.xaxis.set_major_formatter(thousands)


def position_axis(axes: Axes, scales: Scales, last: float) -> None:
    """Positions 1 … `last` along x."""
    if scales.log_x:
        log_x(axes)
        axes.set_xlim(right=last * 1.03)
    else:
        axes.set_xlim(0, last * 1.01)
    axes.xaxis.set_major_formatter(thousands)


def many_lines(steps: Sequence[int]) -> list[dict[str, Any]]:
    """Looks of a line per step, from dark to bright; thinner where there are many.

    The last one, which readers look for, stands out.
    """
    norm, colours = _step_colours(steps)
    # Alone it need not be bright.
    shades = [colours(norm(step)) for step in steps] if len(steps) > 1 else [colours(0.3)]
    thin = float(np.clip(10 / len(steps), 0.5, 1.1))
    looks = [{"color": shade, "linewidth": thin, "markersize": 1.5 + thin} for shade in shades]
    looks[-1] |= {"linewidth": 1.8, "markersize": 4.5}
    return looks


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round ratios from `low` to `high`, as many as an axis has room for."""
    if high / low > 30:
        steps = [base * 10.0**power for power in range(-6, 7) for base in (1, 3)]
    elif high / low > 3:
        steps = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10]
    else:
        step = 0.1 if high / low >= 1.35 else 0.05 if high / low >= 1.12 else 0.02
        steps = [round(1 + step * number, 2) for number in range(-round(0.9 / step), round(2 / step))]
    return [step for step in steps if low <= step <= high]


def step_bar(figure: Figure, panels: Sequence[Axes], steps: Sequence[int]) -> None:
    """The colour bar of `many_lines`."""
    bar = figure.colorbar(ScalarMappable(*_step_colours(steps)), ax=panels, pad=0.02, aspect=40)
    bar.set_label("training step")
    bar.ax.yaxis.set_major_formatter(thousands)


def _step_colours(steps: Sequence[int]) -> tuple[PowerNorm, ListedColormap]:
    # Perplexity falls fastest early on: the root gives the first checkpoints colours of their own too.
    norm = PowerNorm(0.5, 0, max(1, *steps))
    return norm, ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))  # its yellow is too pale on white


def label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) beside the right end of the axes, moved apart where they would touch."""
    known = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    if not known:
        return
    gap = _LABEL_HEIGHT * axes.figure.dpi / axes.get_window_extent().height
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((0.0 if axes.get_xscale() == "linear" else 1.0, y))[1]) for y, _, _ in known]
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
    """A name that fits beside a line: its start and its end."""
    return name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"
