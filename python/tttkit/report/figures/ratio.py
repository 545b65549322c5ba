"""Figures of the ratio SW/TTT: over positions, over training at each labelled position, and over both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from tttkit.report.curves import LABELS, floats, ratio_at
from tttkit.report.figures.style import (
    CYCLE,
    LOOK,
    STYLES,
    USUAL,
    Scales,
    label_ends,
    ratio_ticks,
    ratio_y,
    save,
    step_axis,
    step_x,
)

_WINDOWED = ("sw", "sw_aligned", "reset")
_INTERVALS = ", with 95 % intervals"
_MOST_STEPS = 100
"""Lines of more evaluations hide each other behind their noise: running means are drawn."""


def plot_ratio_by_position(curves: dict[str, Any], path: Path) -> Path | None:
    """SW/TTT of one checkpoint over positions, with 95 % bands. None where the files hold no ratios."""
    ratios = {context: floats(curves.get(f"{context}_ratio")) for context in _WINDOWED}
    if not any(np.isfinite(ratio).any() for ratio in ratios.values()):
        return None
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        ends = np.asarray(curves["ends"], dtype=np.float64)
        beyond = ends >= int(curves["training_window"])  # up to W all contexts are equal by construction
        names = []
        for context, ratio in ratios.items():
            if not np.isfinite(ratio).any():
                continue
            colour = STYLES[context][0]
            bounds = [floats(curves.get(f"{context}_ratio_{side}")) for side in ("low", "high")]
            known = [bound[beyond] for bound in bounds if bound.size == ends.size]  # the earlier system has none
            _draw(axes, ends[beyond], ratio[beyond], known, (colour, STYLES[context][1]))
            names.append((float(ratio[np.isfinite(ratio)][-1]), context, colour))
        ratio_y(axes)
        _position_axis(axes, curves, ends)
        axes.set_ylabel("perplexity / full (above 1: full better)")
        intervals = _INTERVALS if any(f"{context}_ratio_low" in curves for context in _WINDOWED) else ""
        axes.set_title(f"Ratio to the full context at step {int(curves['step'] or 0):,}{intervals}")
        label_ends(axes, names)
        return save(figure, path)


def plot_ratio_by_step(summaries: list[dict[str, Any]], path: Path, scales: Scales = USUAL) -> Path | None:
    """SW/TTT over training, a line with its 95 % band per labelled position. None where the files hold no ratios."""
    labels = _labels(summaries)
    if not labels:
        return None
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        steps = np.array([int(item.get("step") or 0) for item in summaries], dtype=np.float64)
        alone = steps.size == 1
        over = 1 if steps.size <= _MOST_STEPS else steps.size // 50
        names: list[tuple[float, str, str]] = []
        for index, (multiple, look) in enumerate(zip(labels, CYCLE, strict=False)):
            ratio, *bounds = (
                _running_mean(floats(values), over)
                for values in (
                    [ratio_at(item, multiple) for item in summaries],
                    *([item.get(f"ratio_ci_{side}_at_{multiple}xW") for item in summaries] for side in ("low", "high")),
                )
            )
            _draw(axes, np.array([float(index)]) if alone else steps, ratio, bounds, look)
            known = ratio[np.isfinite(ratio)]
            names.append((float(known[-1]) if known.size else np.nan, f"{multiple} x W", look[0]))
        ratio_y(axes)
        axes.set_ylabel("SW / full (above 1: full better)")
        has_intervals = any(item.get(f"ratio_ci_low_at_{labels[-1]}xW") is not None for item in summaries)
        notes = (_INTERVALS if has_intervals else "") + (f", means of {over} evaluations" if over > 1 else "")
        if alone:  # positions beside each other, since a step alone is no axis
            axes.set_xticks(range(len(labels)), [name for _, name, _ in names])
            axes.set_xlim(-0.7, len(labels) - 0.3)
            axes.set_xlabel("position in the sequence")
            at = "" if summaries[0].get("step") is None else f" at step {steps[0]:,.0f}"
            axes.set_title(f"Ratio at each position{at}{notes}")
        else:
            step_x(axes, steps, scales)
            axes.set_xlabel("training step")
            axes.set_title(f"Ratio over training at each position{notes}")
            label_ends(axes, names)
        return save(figure, path)


def plot_ratio_map(curves: list[dict[str, Any]], path: Path) -> Path | None:
    """Position x step map of the ratio, diverging and centred on 1; dotted where the window is better.

    Shows `sw` where it was computed at every position, else `sw_aligned`. None where the files hold neither.
    """
    longest = max(len(item["ends"]) for item in curves)
    rows = [item for item in curves if len(item["ends"]) == longest]
    context = next((name for name in ("sw", "sw_aligned") if _is_whole(rows, name)), None)
    if context is None or longest < 2:
        return None
    ratios = np.log2(np.stack([floats(item[f"{context}_ratio"]) for item in rows]))
    steps = np.array([int(item["step"] or 0) for item in rows], dtype=np.float64)
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 3.8), layout="constrained")
        axes = figure.subplots()
        middles, borders = _columns(axes, rows[-1])
        reach = max(0.01, float(np.nanquantile(np.abs(ratios), 0.98)))  # a few wild cells would leave the rest pale
        norm = CenteredNorm(0.0, halfrange=reach)
        mesh = axes.pcolormesh(borders, _edges(steps), ratios, cmap="PuOr_r", norm=norm, rasterized=True)
        below = np.argwhere(ratios < 0)
        size = float(np.clip(2000 / ratios.size, 0.05, 3))
        dark = ratios[below[:, 0], below[:, 1]] < -0.6 * reach
        axes.scatter(middles[below[:, 1]], steps[below[:, 0]], s=size, c=np.where(dark, "1.0", "0.25"), linewidths=0)
        bar = figure.colorbar(
            mesh, ax=axes, pad=0.02, aspect=30, label=f"{context} / full (dots: below 1)", extend="both"
        )
        bar.set_ticks(np.log2(ratio_ticks(2**-reach, 2**reach)).tolist())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2**value:.3g}"))
        step_axis(axes.yaxis, steps)
        axes.set_xlabel(f"position in the sequence (W = {rows[-1]['training_window']} tokens)")
        axes.set_ylabel("training step")
        axes.set_title("Where and when the full context is better (above 1)")
        return save(figure, path)


def _running_mean(ratios: NDArray[np.float64], over: int) -> NDArray[np.float64]:
    """Geometric mean of each ratio and its neighbours, `over` in all; what is not known stays so and counts nowhere."""
    known = np.isfinite(ratios)
    logs = np.log(ratios, where=known, out=np.zeros(ratios.size))
    sums, counts = (np.convolve(values, np.ones(over), "same") for values in (logs, known.astype(np.float64)))
    return np.where(known, np.exp(sums / np.maximum(1.0, counts)), np.nan)


def _columns(axes: Axes, curves: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles and borders of the map's columns: chunks at their positions, labelled points side by side."""
    ends, window = np.asarray(curves["ends"], dtype=np.float64), int(curves["training_window"])
    if len(set(np.diff(ends))) == 1:
        borders = np.concatenate([[2 * ends[0] - ends[1]], ends])
        ticks = [float(multiple * window) for multiple in LABELS[1:] if multiple * window <= ends[-1]]
        names = [f"{tick / window:g}W" for tick in ticks]
    else:
        borders = np.arange(ends.size + 1, dtype=np.float64)
        ticks, names = (borders[:-1] + 0.5).tolist(), [f"{end / window:g}W" for end in ends]
    axes.set_xticks(ticks, names)
    return (borders[:-1] + borders[1:]) / 2, borders


def _draw(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], bounds: list[NDArray[np.float64]], look: tuple[str, Any]
) -> None:
    """A line with a band; points with bars where fewer than half of the values are known, or there is one alone."""
    colour, line = look
    known = np.isfinite(y)
    low, high = (bound[known] for bound in bounds or (y, y))
    x, y = x[known], y[known]
    if known.mean() < 0.5 or y.size == 1:
        bars = np.maximum(0, np.stack([y - low, high - y]))
        axes.errorbar(x, y, bars, fmt="o", color=colour, markersize=3.5, capsize=2, linewidth=1, zorder=3)
    else:
        axes.plot(x, y, linestyle=line, color=colour, linewidth=1.3, zorder=3)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _position_axis(axes: Axes, curves: dict[str, Any], ends: NDArray[np.float64]) -> None:
    window = int(curves["training_window"])
    axes.set_xscale("log")
    axes.set_xlim(min(window, ends[-1]) * 0.97, ends[-1] * 1.03)
    ticks = [multiple * window for multiple in LABELS if multiple * window <= ends[-1]]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / window:g}W"))
    count = f", n = {curves['num_sequences']}" if "num_sequences" in curves else ""
    axes.set_xlabel(f"position in the sequence (W = {window} tokens{count}; equal up to W)")


def _labels(summaries: list[dict[str, Any]]) -> list[int]:
    """Labelled multiples of W beyond 1 that have a ratio in any summary."""
    return [
        multiple
        for multiple in LABELS
        if multiple > 1 and any(ratio_at(summary, multiple) is not None for summary in summaries)
    ]


def _is_whole(rows: list[dict[str, Any]], context: str) -> bool:
    length = len(rows[0]["ends"])
    return all(
        len(item.get(f"{context}_ratio") or ()) == length and np.isfinite(floats(item[f"{context}_ratio"])).all()
        for item in rows
    )


def _edges(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Borders half-way between steps, the outer ones as far out."""
    if steps.size == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])
