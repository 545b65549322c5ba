"""Axes of figures: scales, ticks and marks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from tttkit.report.figures.style import GREY, Floats, Scales

thousands = FuncFormatter(lambda value, _: f"{value:,.0f}")
digits = FuncFormatter(lambda value, _: f"{value:,.4g}" if value < 10 else f"{value:,.0f}")
_MOST_RATIO = 1e6
"""Ratios beyond it lie outside the axes."""


def grid(axes: Axes) -> None:
    """Draw pale horizontal lines behind the curves."""
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def mark(axes: Axes, position: float) -> None:
    """Draw a dotted vertical line behind the curves."""
    axes.axvline(position, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)


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
