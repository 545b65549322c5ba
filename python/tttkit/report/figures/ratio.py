"""Figures of the ratio of a windowed context to `full`: by position, over training at each label, and over both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tttkit.analyze.curves import floats
from tttkit.report.figures.axes import ratio_axis, ratio_ticks, step_axis, step_x
from tttkit.report.figures.style import CYCLE, USUAL, Floats, Scales, draw_interval, label_ends, multiples, save, sheet
from tttkit.results.contexts import CONTEXTS, LABELS, compared_contexts
from tttkit.results.curves import Curves
from tttkit.results.summary import Summary

_INTERVALS = ", with 95 % intervals"
_MOST_DOUBLINGS = 1000
"""Largest logarithm to base 2 in the map of ratios; beyond it float64 overflows."""
_MOST_STEPS = 100
"""Runs with more evaluations are drawn as running means, because noise would hide the lines."""


def plot_ratio_by_position(curves: Curves, path: Path) -> Path | None:
    """Draw the ratio of every other context to `full` over positions, with 95 % bands. Return None without ratios."""
    ratios = {name: floats(curves.ratio(name)) for name in compared_contexts()}
    ratios = {name: ratio for name, ratio in ratios.items() if np.isfinite(ratio).any()}
    if not ratios:
        return None
    with sheet(3.4) as figure:
        axes = figure.subplots()
        ends = floats(curves.ends)
        # Up to W all contexts are equal by construction.
        beyond = ends >= curves.window
        names = []
        for name, ratio in ratios.items():
            line_style = (CONTEXTS[name].colour, CONTEXTS[name].line_style)
            # Files of the earlier system have no bounds.
            bounds = [floats(curves.ratio(name, part)) for part in ("ratio_low", "ratio_high")]
            known = [bound[beyond] for bound in bounds if bound.size == ends.size]
            draw_interval(axes, ends[beyond], ratio[beyond], known, line_style)
            names.append((float(ratio[np.isfinite(ratio)][-1]), name, line_style[0]))
        ratio_axis(axes)
        _position_axis(axes, curves)
        axes.set_ylabel("perplexity / full (above 1: full better)")
        lows = [value for name in ratios for value in curves.ratio(name, "ratio_low")]
        intervals = _INTERVALS if any(value is not None for value in lows) else ""
        axes.set_title(f"Ratio to the full context at step {curves.step or 0:,}{intervals}")
        label_ends(axes, names)
        return save(figure, path)


def plot_ratio_by_step(summaries: Sequence[Summary], path: Path, scales: Scales = USUAL) -> Path | None:
    """Draw the ratio of `sw` over training, with a line and a 95 % band per label. Return None without ratios."""
    labels = [label for label in LABELS if label > 1 and any(_ratio(item, label) is not None for item in summaries)]
    if not labels:
        return None
    with sheet(3.4) as figure:
        axes = figure.subplots()
        steps = floats([item.step or 0 for item in summaries])
        alone = steps.size == 1
        over = 1 if steps.size <= _MOST_STEPS else steps.size // 50
        names: list[tuple[float, str, str]] = []
        for index, (label, line_style) in enumerate(zip(labels, CYCLE, strict=False)):
            ratios = [item.ratio("sw", label) for item in summaries]
            columns = ([each.value for each in ratios], [each.low for each in ratios], [each.high for each in ratios])
            ratio, *bounds = (_running_mean(floats(column), over) for column in columns)
            draw_interval(axes, floats([index]) if alone else steps, ratio, bounds, line_style)
            known = ratio[np.isfinite(ratio)]
            names.append((float(known[-1]) if known.size else np.nan, f"{label} x W", line_style[0]))
        ratio_axis(axes)
        axes.set_ylabel("SW / full (above 1: full better)")
        has_intervals = any(item.ratio("sw", labels[-1]).low is not None for item in summaries)
        notes = (_INTERVALS if has_intervals else "") + (f", means of {over} evaluations" if over > 1 else "")
        if alone:
            _name_positions(axes, [name for _, name, _ in names], summaries[0].step, notes)
        else:
            step_x(axes, steps, scales)
            axes.set_xlabel("training step")
            axes.set_title(f"Ratio over training at each position{notes}")
            label_ends(axes, names)
        return save(figure, path)


def plot_ratio_map(evaluations: Sequence[Curves], path: Path) -> Path | None:
    """Draw the ratio over positions and steps as a map centred on 1, with dots where the window is better.

    It shows `sw` if that was computed at every position, else `sw_aligned`. Return None if the files hold neither.
    """
    longest = max(len(curves.ends) for curves in evaluations)
    rows = [curves for curves in evaluations if len(curves.ends) == longest]
    context = next((name for name in ("sw", "sw_aligned") if _is_complete(rows, name)), None)
    if context is None or longest < 2:
        return None
    with np.errstate(divide="ignore"):
        logarithms = np.log2(np.stack([floats(curves.ratio(context)) for curves in rows]))
    ratios = np.clip(logarithms, -_MOST_DOUBLINGS, _MOST_DOUBLINGS)
    steps = floats([curves.step or 0 for curves in rows])
    with sheet(3.8) as figure:
        axes = figure.subplots()
        middles, borders = _columns(axes, rows[-1])
        # A few extreme cells would leave the rest pale.
        reach = max(0.01, float(np.nanquantile(np.abs(ratios), 0.98)))
        norm = CenteredNorm(0.0, halfrange=reach)
        mesh = axes.pcolormesh(borders, _borders(steps), ratios, cmap="PuOr_r", norm=norm, rasterized=True)
        below = np.argwhere(ratios < 0)
        size = float(np.clip(2000 / ratios.size, 0.05, 3))
        dark = ratios[below[:, 0], below[:, 1]] < -0.6 * reach
        axes.scatter(middles[below[:, 1]], steps[below[:, 0]], s=size, c=np.where(dark, "1.0", "0.25"), linewidths=0)
        _ratio_bar(figure, axes, mesh, f"{context} / full (dots: below 1)", reach)
        step_axis(axes.yaxis, steps)
        axes.set_xlabel(f"position in the sequence (W = {rows[-1].window} tokens)")
        axes.set_ylabel("training step")
        axes.set_title("Where and when the full context is better (above 1)")
        return save(figure, path)


def _ratio(summary: Summary, label: int) -> float | None:
    return summary.ratio("sw", label).value


def _running_mean(ratios: Floats, over: int) -> Floats:
    """Return the geometric mean of each ratio and its neighbors, `over` values in all.

    A value that is not known stays unknown and does not count.
    """
    known = np.isfinite(ratios)
    logs = np.log(ratios, where=known, out=np.zeros(ratios.size))
    sums, counts = (np.convolve(values, np.ones(over), "same") for values in (logs, known.astype(np.float64)))
    return np.where(known, np.exp(sums / np.maximum(1.0, counts)), np.nan)


def _name_positions(axes: Axes, names: list[str], step: int | None, notes: str) -> None:
    """Put the labels side by side along x, because a single step makes no axis."""
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_xlabel("position in the sequence")
    at = "" if step is None else f" at step {step:,}"
    axes.set_title(f"Ratio at each position{at}{notes}")


def _position_axis(axes: Axes, curves: Curves) -> None:
    window, last = curves.window, curves.ends[-1]
    axes.set_xscale("log")
    axes.set_xlim(min(window, last) * 0.97, last * 1.03)
    axes.xaxis.set_major_locator(FixedLocator([position for position, _ in multiples(curves)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / window:g}W"))
    count = "" if curves.num_sequences is None else f", n = {curves.num_sequences}"
    axes.set_xlabel(f"position in the sequence (W = {window} tokens{count}; equal up to W)")


def _columns(axes: Axes, curves: Curves) -> tuple[Floats, Floats]:
    """Return middles and borders of the map's columns: chunks at their positions, labelled points side by side."""
    ends, window = floats(curves.ends), curves.window
    if len(set(np.diff(ends))) == 1:
        borders = np.concatenate([[2 * ends[0] - ends[1]], ends])
        marked = [(float(position), name) for position, name in multiples(curves) if position > window]
    else:
        borders = np.arange(ends.size + 1, dtype=np.float64)
        marked = [(border + 0.5, f"{end / window:g}W") for border, end in zip(borders.tolist(), ends, strict=False)]
    axes.set_xticks([position for position, _ in marked], [name for _, name in marked])
    return (borders[:-1] + borders[1:]) / 2, borders


def _ratio_bar(figure: Figure, axes: Axes, mesh: QuadMesh, text: str, reach: float) -> None:
    """Add the colour bar of logarithms to base 2, labelled with ratios."""
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30, label=text, extend="both")
    bar.set_ticks(np.log2(ratio_ticks(2**-reach, 2**reach)).tolist())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2**value:.3g}"))


def _is_complete(rows: Sequence[Curves], context: str) -> bool:
    """Whether every evaluation has the ratio of a context at every position."""
    ratios = [curves.ratio(context) for curves in rows]
    return all(len(ratio) == len(rows[0].ends) and None not in ratio for ratio in ratios)


def _borders(steps: Floats) -> Floats:
    """Return borders half-way between steps; the outer borders are equally far out."""
    if steps.size == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])
