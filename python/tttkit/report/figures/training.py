"""Figures of training: the loss with the learning rate, and several runs side by side on the token axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from tttkit.analyze.curves import floats
from tttkit.report.figures.axes import grid, log_x, step_x, value_axis
from tttkit.report.figures.style import CYCLE, GREY, USUAL, Floats, Scales, label_ends, save, sheet, short_name
from tttkit.results.summary import Summary

Named = Sequence[tuple[str, Sequence[Summary]]]
"""Runs by name, with the evaluations of each."""
_SMOOTHING_SHARE = 0.02
"""Share of the run that the smoothed loss averages over."""


def plot_training(
    metrics: Sequence[dict[str, Any]], segments: Sequence[dict[str, Any]], path: Path, scales: Scales = USUAL
) -> Path | None:
    """Draw the training loss, as logged and smoothed, above the learning rate. Return None without a logged step.

    `segments` come from metadata.json; a dotted line marks each step at which training resumed.
    """
    if not metrics:
        return None
    steps, loss, learning_rate = (floats([record.get(key) for record in metrics]) for key in ("step", "loss", "lr"))
    with sheet(4.2) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        alone: dict[str, Any] = {"marker": "o", "markersize": 4} if steps.size == 1 else {}
        top.plot(steps, loss, color="#56B4E9", linewidth=0.7, alpha=0.6, label="as logged", **alone)
        top.plot(steps, smooth(loss, scales.smoothing), color="#0072B2", linewidth=1.6, label="smoothed")
        bottom.plot(steps, learning_rate, color="#D55E00", linestyle="--", linewidth=1.3, **alone)
        for start in sorted({int(item["start_step"]) for item in segments if item.get("start_step")}):
            top.axvline(start, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        skipped = _skipped_steps(metrics)
        if skipped:
            top.plot(skipped, [1.0] * len(skipped), "x", color="#000000", markersize=5, clip_on=False,
                     transform=top.get_xaxis_transform(), label="update skipped")  # fmt: skip
        value_axis(top, scales, subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0))
        for axes in (top, bottom):
            grid(axes)
        top.set_ylabel("loss (nats per token)")
        top.set_title("Training loss and learning rate")
        top.legend(loc="upper right")
        bottom.set_ylabel("learning rate")
        _learning_rate_ticks(bottom, learning_rate)
        step_x(bottom, steps, scales)
        bottom.set_xlabel(f"training step{' (dotted: training resumed there)' if len(segments) > 1 else ''}")
        return save(figure, path)


def plot_comparison(runs: Named, path: Path, scales: Scales = USUAL) -> Path:
    """Draw runs over training tokens: perplexity within the window, and at the longest label that all have."""
    shared = set.intersection(*(set(summaries[-1].labels() if summaries else ()) for _, summaries in runs))
    longest = max(shared, default=1)
    # The height leaves room for the names beside each panel.
    with sheet(max(5.2, 1.5 + 0.4 * len(runs))) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        panels[0].set_title("Perplexity within the window (1 x W)")
        _draw_runs(panels[0], runs, lambda item: item.selection_ppl or item.perplexity("full", 1), scales)
        panels[1].set_title(f"Perplexity at {longest} x W, full context")
        _draw_runs(panels[1], runs, lambda item: item.perplexity("full", longest), scales)
        if scales.log_x:
            log_x(panels[1])
        panels[1].xaxis.set_major_formatter(FuncFormatter(_tokens))
        panels[1].set_xlabel("training tokens")
        return save(figure, path)


def _draw_runs(axes: Axes, runs: Named, value: Callable[[Summary], float | None], scales: Scales) -> None:
    """Draw a line per run with its name at the end.

    The axis spans trained models only: untrained ones are equal and so far above that differences would vanish.
    """
    names, trained = [], []
    for index, (name, summaries) in enumerate(runs):
        colour, line = CYCLE[index % len(CYCLE)]
        tokens, values = (floats(column) for column in ([s.tokens for s in summaries], [value(s) for s in summaries]))
        axes.plot(tokens, values, color=colour, linestyle=line, linewidth=1.3, marker="o", markersize=2.5)
        known = values[np.isfinite(values)]
        names.append((float(known[-1]) if known.size else np.nan, short_name(name), colour))
        trained.append(values[np.isfinite(values) & (tokens > 0)])
    value_axis(axes, scales, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    shown = np.concatenate(trained)
    if np.unique(shown).size > 1:
        axes.set_ylim(0.95 * shown.min(), 1.05 * shown.max())
    grid(axes)
    axes.set_ylabel("perplexity")
    label_ends(axes, names)


def smooth(values: Floats, over: float | None = None) -> Floats:
    """Return the exponential average over about `over` values (None: 2 % of all values), unbiased at the start.

    NaN is left out of the average.
    """
    keep = 1 - 1 / max(1.0, _SMOOTHING_SHARE * values.size if over is None else over)
    total, weight, averaged = 0.0, 0.0, np.empty_like(values)
    for index, value in enumerate(values.tolist()):
        if np.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        averaged[index] = total / weight if weight else np.nan
    return averaged


def _learning_rate_ticks(axes: Axes, learning_rate: Floats) -> None:
    """Label 0 and the peak only: the panel is low, and readers look for these two."""
    peak = float(np.nanmax(learning_rate)) if np.isfinite(learning_rate).any() else 0.0
    axes.set_ylim(0, 1.1 * peak if peak else 1)
    axes.set_yticks([0, peak] if peak else [0], ["0", f"{peak:.3g}"] if peak else ["0"])


def _skipped_steps(metrics: Sequence[dict[str, Any]]) -> list[int]:
    """Return the logged steps at which more updates had been skipped than at the logged step before."""
    counts = [int(record.get("num_skipped") or 0) for record in metrics]
    return [int(metrics[at]["step"]) for at in range(len(counts)) if counts[at] > (counts[at - 1] if at else 0)]


def _tokens(value: float, _: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
