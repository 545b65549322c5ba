"""Figures of training: loss with the learning rate, and several runs side by side on the token axis."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from tttkit.report.curves import floats
from tttkit.report.figures.style import (
    CYCLE,
    GREY,
    LOOK,
    USUAL,
    Scales,
    label_ends,
    log_x,
    save,
    short_name,
    step_x,
    value_axis,
)

_SMOOTHING_SHARE = 0.02
"""The average over recent losses looks back over about this share of the run."""


def plot_training(
    metrics: list[dict[str, Any]], segments: list[dict[str, Any]], path: Path, scales: Scales = USUAL
) -> Path | None:
    """Training loss, faint as logged and smoothed, over the learning rate. None before the first logged step.

    `segments` are those of metadata.json: a dotted line marks each step at which a process went on.
    """
    if not metrics:
        return None
    steps, loss, rate = (floats([record.get(key) for record in metrics]) for key in ("step", "loss", "lr"))
    with style.context(["default", LOOK]):
        figure = Figure(figsize=(6, 4.2), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        alone = {"marker": "o", "markersize": 4} if steps.size == 1 else {}
        top.plot(steps, loss, color="#56B4E9", linewidth=0.7, alpha=0.6, label="as logged", **alone)
        top.plot(steps, smooth(loss, scales.smoothing), color="#0072B2", linewidth=1.6, label="smoothed")
        bottom.plot(steps, rate, color="#D55E00", linestyle="--", linewidth=1.3, **alone)
        for start in sorted({int(item["start_step"]) for item in segments if item.get("start_step")}):
            top.axvline(start, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        skipped = _skips(metrics)
        if skipped:
            top.plot(skipped, [1.0] * len(skipped), "x", color="#000000", markersize=5, clip_on=False,
                     transform=top.get_xaxis_transform(), label="update skipped")  # fmt: skip
        value_axis(top, scales, subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0))
        for axes in (top, bottom):
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
        top.set_ylabel("loss (nats per token)")
        top.set_title("Training loss and learning rate")
        top.legend(loc="upper right")
        bottom.set_ylabel("learning rate")
        _rate_ticks(bottom, rate)
        step_x(bottom, steps, scales)
        note = " (dotted: a process went on from there)" if len(segments) > 1 else ""
        bottom.set_xlabel(f"training step{note}")
        return save(figure, path)


def plot_comparison(runs: list[tuple[str, list[dict[str, Any]]]], path: Path, scales: Scales = USUAL) -> Path:
    """Runs side by side on tokens seen: selection perplexity, and the full context at the longest position all have.

    `runs` are names with the summaries of each.
    """
    label = _longest_common(runs)
    with style.context(["default", LOOK]):
        # High enough for the names beside each panel.
        figure = Figure(figsize=(6, max(5.2, 1.5 + 0.4 * len(runs))), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        keys = ("selection_ppl", f"ttt_ppl_at_{label}")
        titles = ("Perplexity within the window (1 x W)", f"Perplexity at {label.replace('xW', ' x W')}, full context")
        for axes, key, title in zip(panels, keys, titles, strict=True):
            axes.set_title(title)
            _draw_runs(axes, runs, key, scales)
        if scales.log_x:
            log_x(panels[1])
        panels[1].xaxis.set_major_formatter(FuncFormatter(_tokens))
        panels[1].set_xlabel("training tokens")
        return save(figure, path)


def _draw_runs(axes: Axes, runs: list[tuple[str, list[dict[str, Any]]]], key: str, scales: Scales) -> None:
    """A line per run with its name at the end. The axis holds what was trained: untrained models, far above it, are
    equal, and an axis up to them would leave no room for differences."""
    names, trained = [], []
    for index, (name, summaries) in enumerate(runs):
        colour, line = CYCLE[index % len(CYCLE)]
        tokens = floats([item.get("tokens_seen") for item in summaries])
        values = floats([item.get(key) or (item.get("ttt_ppl_at_1xW") if key == "selection_ppl" else None)
                         for item in summaries])  # fmt: skip
        axes.plot(tokens, values, color=colour, linestyle=line, linewidth=1.3, marker="o", markersize=2.5)
        known = values[np.isfinite(values)]
        names.append((float(known[-1]) if known.size else np.nan, short_name(name), colour))
        trained.append(values[np.isfinite(values) & (tokens > 0)])
    value_axis(axes, scales, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    shown = np.concatenate(trained)
    if np.unique(shown).size > 1:
        axes.set_ylim(0.95 * shown.min(), 1.05 * shown.max())
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_ylabel("perplexity")
    label_ends(axes, names)


def _rate_ticks(axes: Axes, rate: NDArray[np.float64]) -> None:
    """0 and the highest learning rate: the panel is low, and these two are what a reader asks for."""
    peak = float(np.nanmax(rate)) if np.isfinite(rate).any() else 0.0
    axes.set_ylim(0, 1.1 * peak if peak else 1)
    axes.set_yticks([0, peak] if peak else [0], ["0", f"{peak:.3g}"] if peak else ["0"])


def smooth(values: NDArray[np.float64], over: float | None = None) -> NDArray[np.float64]:
    """Exponential average over about `over` values (None: one in fifty), unbiased at the start.

    NaN passes through without spoiling the rest.
    """
    keep = 1 - 1 / max(1.0, _SMOOTHING_SHARE * values.size if over is None else over)
    total, weight, averaged = 0.0, 0.0, np.empty_like(values)
    for index, value in enumerate(values.tolist()):
        if np.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        averaged[index] = total / weight if weight else np.nan
    return averaged


def _skips(metrics: list[dict[str, Any]]) -> list[int]:
    """Logged steps by which more updates had been skipped than before."""
    counts = [int(record.get("num_skipped") or 0) for record in metrics]
    return [int(metrics[at]["step"]) for at in range(len(counts)) if counts[at] > (counts[at - 1] if at else 0)]


def _longest_common(runs: list[tuple[str, list[dict[str, Any]]]]) -> str:
    shared: set[int] | None = None
    for _, summaries in runs:
        found = {int(match[1]) for key in (summaries[-1] if summaries else {})
                 if (match := re.match(r"^ttt_ppl_at_(\d+)xW$", key))}  # fmt: skip
        shared = found if shared is None else shared & found
    return f"{max(shared or {1})}xW"


def _tokens(value: float, _: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
