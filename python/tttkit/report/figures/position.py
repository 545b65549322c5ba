"""Figures of perplexity by position: one evaluation in every context, and all evaluations of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tttkit.analyze.curves import floats, perplexity
from tttkit.report.figures.axes import grid, mark, position_axis, step_x, value_axis
from tttkit.report.figures.steps import many_lines, step_bar
from tttkit.report.figures.style import GREY, USUAL, Scales, draw_interval, multiples, save, sheet
from tttkit.results.contexts import CONTEXTS, compared_contexts
from tttkit.results.curves import Curves
from tttkit.results.summary import Summary

EVOLUTION_NAME = "curriculum_length_gen_evolution"


def plot_evolution(evaluations: Sequence[Curves], path: Path, scales: Scales = USUAL) -> Path:
    """Draw the full context above the sliding window, with a line per evaluation from dark to bright. Return `path`."""
    with sheet(5.6) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
        last = evaluations[-1]
        # The earlier system did not always record the step.
        steps = [curves.step or 0 for curves in evaluations]
        for curves, line_style in zip(evaluations, many_lines(steps), strict=True):
            top.plot(curves.ends, perplexity(curves, "full"), **line_style)
            _draw_window(bottom, curves, line_style)
        _name_panels(top, bottom, last, single=len(evaluations) == 1)
        if any(np.isnan(perplexity(curves, "sw")).any() for curves in evaluations):
            _explain_points(figure, has_line=any(_has_aligned_line(curves) for curves in evaluations))
        for axes in (top, bottom):
            _perplexity_axes(axes, last, scales)
        _name_multiples(top, last, scales)
        if len(evaluations) > 1:
            step_bar(figure, [top, bottom], steps)
        return save(figure, path)


def plot_means(summaries: Sequence[Summary], path: Path, scales: Scales = USUAL) -> Path:
    """Draw mean perplexities over training, for result files that hold nothing else. Return `path`."""
    steps = floats([summary.step for summary in summaries])
    with sheet(3.4) as figure:
        axes = figure.subplots()
        for name, context in CONTEXTS.items():
            means = floats([summary.mean(name) for summary in summaries])
            if np.isfinite(means).any():
                axes.plot(
                    steps, means, linestyle=context.line_style, color=context.colour, label=_legend_text(name),
                    linewidth=1.1,
                )  # fmt: skip
        axes.set_title("Mean perplexity over all chunks (figures by position were not kept)")
        axes.set_xlabel("training step")
        axes.set_ylabel("perplexity")
        value_axis(axes, scales)
        step_x(axes, steps, scales)
        axes.legend()
        return save(figure, path)


def plot_chunk_eval(curves: Curves, path: Path) -> Path:
    """Draw one evaluation in all contexts, and below it their ratios to `full` with intervals. Return `path`."""
    with sheet(6.1) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        ends = floats(curves.ends)
        for name in curves.contexts():
            context, values = CONTEXTS[name], perplexity(curves, name)
            known = ~np.isnan(values)
            # the positions of some models end, and the curve with them
            is_line = known[: np.flatnonzero(known).max(initial=-1) + 1].all()
            points: dict[str, Any] = {"linestyle": "none", "marker": "o"}
            line = {"linestyle": context.line_style} if is_line else points
            top.plot(
                ends[known], values[known], color=context.colour, label=_legend_text(name), linewidth=1.3,
                markersize=4, zorder=2.5, **line,
            )  # fmt: skip
        bottom.axhline(1.0, color=GREY, linewidth=0.8)
        for name in compared_contexts():
            _draw_ratio(bottom, curves, name)
        _mark_trained_length(top, curves)
        top.set_title("Perplexity by position and context", pad=16)
        bottom.set_title("Ratio to the full context, with 95 % intervals (above 1: full is better)")
        bottom.set_ylabel("perplexity / full")
        _perplexity_axes(top, curves, USUAL)
        _position_axes(bottom, curves, USUAL)
        _name_multiples(top, curves, USUAL)
        bottom.set_xlabel(_position_text(curves))
        figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=1)
        return save(figure, path)


def _mark_trained_length(axes: Axes, curves: Curves) -> None:
    """Mark the longest text that the model was trained on, if its config names it and the figure reaches it."""
    length = curves.get("trained_length")
    if isinstance(length, int) and length <= curves.ends[-1]:
        axes.axvline(length, color=GREY, linestyle=":", linewidth=1.2, label=f"trained length: {length} tokens")


def chunk_eval_name(curves: Curves) -> str:
    """Return chunk_eval_W…_T…_K…_S….png, the name that the earlier system gave this figure."""
    sizes = (curves.get(key) for key in ("eval_max_length", "chunk_size", "chunk_stride"))
    return "chunk_eval_W{}_T{}_K{}_S{}.png".format(curves.window, *sizes)


def _legend_text(context: str) -> str:
    return f"{context}: {CONTEXTS[context].description}"


def _draw_window(axes: Axes, curves: Curves, line_style: dict[str, Any]) -> None:
    """Draw `sw` as a line, or if only some positions were computed, as points with the line of `sw_aligned`, if any."""
    ends, exact = floats(curves.ends), perplexity(curves, "sw")
    known = ~np.isnan(exact)
    if known.all():
        axes.plot(ends, exact, **line_style)
        return
    if _has_aligned_line(curves):
        axes.plot(ends, perplexity(curves, "sw_aligned"), **{**line_style, "linewidth": 0.6 * line_style["linewidth"]})
    axes.plot(ends[known], exact[known], "o", markeredgecolor="white", markeredgewidth=0.3, **line_style)


def _has_aligned_line(curves: Curves) -> bool:
    """Whether `sw_aligned` is known beyond the positions of `sw`; without inner mini-batches both are the same."""
    aligned, exact = (perplexity(curves, name) for name in ("sw_aligned", "sw"))
    return bool((np.isnan(exact) & ~np.isnan(aligned)).any())


def _name_panels(top: Axes, bottom: Axes, curves: Curves, *, single: bool) -> None:
    # The earlier system trained TTT models only and did not record a name.
    model = curves.model or "ttt"
    # Hair spaces: without them the font joins the bars of the three letters.
    name = "\u200a".join("TTT") if model.startswith("ttt") else model
    at = f", step {curves.step:,}" if single and curves.step is not None else ""
    # The padding leaves room for the names of the marked positions.
    top.set_title(f"{name}: full context from token 0{at}", pad=16)
    bottom.set_title(f"SW: same weights, sliding window of {curves.window} tokens{at}")
    bottom.set_xlabel(_position_text(curves))


def _position_text(curves: Curves) -> str:
    sequences = "" if curves.num_sequences is None else f", {curves.num_sequences} sequences"
    return f"position in the sequence (tokens; W = {curves.window}{sequences})"


def _explain_points(figure: Figure, *, has_line: bool) -> None:
    points = Line2D([], [], color=GREY, marker="o", linestyle="none", markersize=3.5, label="each token's own window")
    lines = Line2D([], [], color=GREY, linewidth=0.7, label="windows aligned to the inner mini-batch")
    figure.legend(handles=[points, lines] if has_line else [points], loc="outside lower center", ncols=2)


def _draw_ratio(axes: Axes, curves: Curves, context: str) -> None:
    """Draw the ratio of a context where its interval is known."""
    ratio, low, high = (floats(curves.ratio(context, part)) for part in ("ratio", "ratio_low", "ratio_high"))
    if not ratio.size == low.size == high.size == len(curves.ends):
        return
    ratio = np.where(np.isfinite(low + high), ratio, np.nan)
    if np.isfinite(ratio).any():
        line_style = (CONTEXTS[context].colour, CONTEXTS[context].line_style)
        draw_interval(axes, floats(curves.ends), ratio, [low, high], line_style)


def _perplexity_axes(axes: Axes, curves: Curves, scales: Scales) -> None:
    value_axis(axes, scales)
    axes.set_ylabel("perplexity")
    _position_axes(axes, curves, scales)


def _position_axes(axes: Axes, curves: Curves, scales: Scales) -> None:
    grid(axes)
    position_axis(axes, scales, curves.ends[-1])
    for position, _ in multiples(curves):
        mark(axes, position)


def _name_multiples(axes: Axes, curves: Curves, scales: Scales) -> None:
    """Write the names of the marked positions above the axes, except names that would touch the one before."""
    first, longest = float(curves.ends[0]), float(curves.ends[-1])
    # Each entry is the share of the axis, the position and its name.
    kept: list[tuple[float, int, str]] = []
    for position, name in multiples(curves):
        share = position / longest
        if scales.log_x and longest > first:
            share = float(np.log(position / first) / np.log(longest / first))
        if not kept or share - kept[-1][0] >= 0.045:
            kept.append((share, position, name))
    for index, (share, position, name) in enumerate(kept):
        # Close neighbors lean away from each other.
        leans_right = index > 0 and share - kept[index - 1][0] < 0.07
        leans_left = index + 1 < len(kept) and kept[index + 1][0] - share < 0.07
        axes.annotate(
            name, (position, 1.0), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="left" if leans_right else "right" if leans_left else "center", va="bottom", fontsize=9.5, color=GREY,
        )  # fmt: skip
