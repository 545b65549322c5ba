"""Plots of length generalization, for a screen and for a paper. Same data, same bytes.

matplotlib is imported by the modules of figures alone, and those only when something is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tttkit.report.curves import LABELS, floats, perplexity
from tttkit.report.figures.style import (
    GREY,
    LOOK,
    STYLES,
    USUAL,
    Scales,
    many_lines,
    position_axis,
    save,
    step_bar,
    step_x,
    value_axis,
)

EVOLUTION_NAME = "curriculum_length_gen_evolution"


def plot_evolution(curves: list[dict[str, Any]], path: Path, scales: Scales = USUAL) -> Path:
    """TTT over SW panels, a line per checkpoint from dark to bright; PNG or SVG by the suffix of `path`. Returns it."""
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 5.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
        steps = [int(item["step"] or 0) for item in curves]  # the earlier system did not always record it
        for item, look in zip(curves, many_lines(steps), strict=True):
            top.plot(item["ends"], perplexity(item, "full"), **look)
            _draw_windowed(bottom, item, look)
        _name_panels(top, bottom, curves[-1], steps)
        if any(np.isnan(perplexity(item, "sw")).any() for item in curves):
            _explain_points(figure)
        for axes in (top, bottom):
            _dress(axes, curves[-1], scales)
        _mark_multiples(top, curves[-1], scales)
        if len(curves) > 1:
            step_bar(figure, [top, bottom], steps)
        return save(figure, path)


def plot_means(summaries: list[dict[str, Any]], path: Path, scales: Scales = USUAL) -> Path:
    """Mean perplexity of both contexts over steps, for files that hold no more; PNG or SVG. Returns `path`."""
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        for context, prefix in (("full", "ttt"), ("sw", "sw")):
            colour, line, label = STYLES[context]
            values = floats([item.get(f"{prefix}_ppl_mean") for item in summaries])
            axes.plot([item["step"] for item in summaries], values, line, color=colour, label=label, linewidth=1.1)
        axes.set_title("Mean of the chunks' perplexities (no figure by position was kept)")
        axes.set_xlabel("training step")
        axes.set_ylabel("perplexity")
        value_axis(axes, scales)
        step_x(axes, floats([item["step"] for item in summaries]), scales)
        axes.legend()
        return save(figure, path)


def plot_chunk_eval(curves: dict[str, Any], path: Path) -> Path:
    """All contexts of one checkpoint over positions, and below their ratios to full with intervals. Returns `path`."""
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 6.1), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        ends = np.asarray(curves["ends"])
        for context, (colour, line, label) in STYLES.items():
            values = perplexity(curves, context)
            known = ~np.isnan(values)
            look = {"linestyle": line, "linewidth": 1.3} if known.all() else {"linestyle": "none", "marker": "o"}
            top.plot(ends[known], values[known], color=colour, label=label, markersize=4, zorder=2.5, **look)
        bottom.axhline(1.0, color=GREY, linewidth=0.8)
        for context in ("sw", "sw_aligned", "reset"):
            _draw_ratio(bottom, curves, context, ends)
        top.set_title("Perplexity by position and context", pad=16)
        bottom.set_title("Ratio to full, with 95 % intervals (above 1: full is better)")
        bottom.set_ylabel("perplexity / full")
        _dress(top, curves, USUAL)
        _dress_x(bottom, curves, USUAL)
        _mark_multiples(top, curves, USUAL)
        bottom.set_xlabel(_describe_x(curves))
        figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=1)
        return save(figure, path)


def chunk_eval_name(curves: dict[str, Any]) -> str:
    """chunk_eval_W…_T…_K…_S….png, as the earlier system named it."""
    sizes = (curves[key] for key in ("training_window", "eval_max_length", "chunk_size", "chunk_stride"))
    return "chunk_eval_W{}_T{}_K{}_S{}.png".format(*sizes)


def _draw_windowed(axes: Axes, item: dict[str, Any], look: dict[str, Any]) -> None:
    ends, exact = np.asarray(item["ends"]), perplexity(item, "sw")
    known = ~np.isnan(exact)
    if known.all():
        axes.plot(ends, exact, **look)
        return
    axes.plot(ends, perplexity(item, "sw_aligned"), **{**look, "linewidth": 0.6 * look["linewidth"]})
    axes.plot(ends[known], exact[known], "o", markeredgecolor="white", markeredgewidth=0.3, **look)


def _name_panels(top: Axes, bottom: Axes, curves: dict[str, Any], steps: list[int]) -> None:
    model = curves.get("model") or "ttt"  # the earlier system had no other
    # Hair spaces: without them the font joins the three bars to one.
    name = "\u200a".join("TTT") if model.startswith("ttt") else model
    at = f", step {steps[0]:,}" if len(steps) == 1 and curves["step"] is not None else ""
    top.set_title(f"{name}: full context from token 0{at}", pad=16)  # room for the names of the marked positions
    bottom.set_title(f"SW: same weights, sliding window of {curves['training_window']} tokens{at}")
    bottom.set_xlabel(_describe_x(curves))


def _describe_x(curves: dict[str, Any]) -> str:
    sequences = f", {curves['num_sequences']} sequences" if "num_sequences" in curves else ""
    return f"position in the sequence (tokens; W = {curves['training_window']}{sequences})"


def _explain_points(figure: Figure) -> None:
    points = Line2D([], [], color=GREY, marker="o", linestyle="none", markersize=3.5, label="each token's own window")
    lines = Line2D([], [], color=GREY, linewidth=0.7, label="windows aligned to the inner mini-batch")
    figure.legend(handles=[points, lines], loc="outside lower center", ncols=2)


def _draw_ratio(axes: Axes, curves: dict[str, Any], context: str, ends: NDArray[np.int64]) -> None:
    colour, line, _ = STYLES[context]
    ratio, low, high = (floats(curves.get(f"{context}_{key}")) for key in ("ratio", "ratio_low", "ratio_high"))
    known = np.zeros(0, dtype=bool) if ratio.size != ends.size else np.isfinite(ratio + low + high)
    if not known.any():
        return
    if known.all():
        axes.plot(ends, ratio, line, color=colour, linewidth=1.3)
        axes.fill_between(ends, low, high, color=colour, alpha=0.16, linewidth=0)
    else:
        ends, ratio, low, high = ends[known], ratio[known], low[known], high[known]
        bars = (ratio - low, high - ratio)
        axes.errorbar(ends, ratio, bars, fmt="o", color=colour, markersize=4, capsize=2.5, zorder=2.5)


def _dress(axes: Axes, curves: dict[str, Any], scales: Scales) -> None:
    value_axis(axes, scales)
    axes.set_ylabel("perplexity")
    _dress_x(axes, curves, scales)


def _dress_x(axes: Axes, curves: dict[str, Any], scales: Scales) -> None:
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    position_axis(axes, scales, curves["ends"][-1])
    for position, _ in _multiples(curves):
        axes.axvline(position, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)


def _mark_multiples(axes: Axes, curves: dict[str, Any], scales: Scales) -> None:
    """Names of the marked positions, above the axes; a name that would touch the one before is left out."""
    first, longest = float(curves["ends"][0]), float(curves["ends"][-1])
    kept: list[tuple[float, int, str]] = []  # share of the axis, position, name
    for position, name in _multiples(curves):
        share = position / longest
        if scales.log_x and longest > first:
            share = float(np.log(position / first) / np.log(longest / first))
        if not kept or share - kept[-1][0] >= 0.045:
            kept.append((share, position, name))
    for index, (share, position, name) in enumerate(kept):
        # Close neighbours lean away from each other.
        leans_right = index > 0 and share - kept[index - 1][0] < 0.07
        leans_left = index + 1 < len(kept) and kept[index + 1][0] - share < 0.07
        axes.annotate(
            name, (position, 1.0), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="left" if leans_right else "right" if leans_left else "center", va="bottom", fontsize=9.5, color=GREY,
        )  # fmt: skip


def _multiples(curves: dict[str, Any]) -> list[tuple[int, str]]:
    window, longest = int(curves["training_window"]), int(curves["ends"][-1])
    return [(multiple * window, f"{multiple}W") for multiple in LABELS if 0 < multiple * window <= longest]
