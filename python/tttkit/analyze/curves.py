"""Curves of a run's evaluations, from chunk_eval.json, a file of the earlier system, or the labels of a summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze import earlier_system
from tttkit.errors import UsageError
from tttkit.results.contexts import compared_contexts
from tttkit.results.curves import CURVES_NAME, Curves
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory

_MOST_NATS = 709
"""exp of a larger number overflows float64."""


def load_curves(run: RunDirectory) -> list[Curves]:
    """Load the curves of every evaluation, in order of step; labeled points replace curves that were not kept.

    Raises UsageError when the run has no evaluation yet, DataError when a file is damaged.
    """
    earlier = {curves.index: curves for curves in earlier_system.read_curves(run)}
    loaded = []
    for position, summary in enumerate(earlier_system.read_summaries(run)):
        index = position if summary.index is None else summary.index
        path = run.checkpoint(index) / CURVES_NAME
        if path.exists():
            curves = Curves.read(path, index=index, step=summary.step, model=summary.model)
        else:
            curves = earlier.get(index) or _labelled_points(summary, index)
        loaded.append(curves)
    loaded = [curves for curves in loaded if curves.ends]
    if not loaded:
        raise UsageError(f"{run.path} has no evaluation yet", hint=f"look at it with `tttkit status {run.argument}`")
    return sorted(loaded, key=lambda curves: curves.step or 0)


def load_means(run: RunDirectory) -> list[Summary]:
    """Load the summaries of a run whose files hold only means over all positions; empty for any other run."""
    summaries = earlier_system.read_summaries(run)
    if any(summary.labels() for summary in summaries):
        return []
    return [summary for summary in summaries if summary.mean("full") is not None]


def perplexity(curves: Curves, context: str) -> NDArray[np.float64]:
    """Return the perplexity per chunk; NaN where it was not computed or overflows float64."""
    values = floats(curves.mean_nll(context))
    nll = values if values.size else np.full(len(curves.ends), np.nan)
    return np.exp(np.where(nll < _MOST_NATS, nll, np.nan))


def floats(values: Sequence[Any]) -> NDArray[np.float64]:
    """Return values as an array; None and the strings that JSON has for non-finite numbers become NaN."""
    return np.array([value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64)


def _labelled_points(summary: Summary, index: int) -> Curves:
    """Return the labeled points of a summary, for an evaluation whose curves were not kept."""
    window = summary.window or 0
    labels = [multiple for multiple in summary.labels() if summary.perplexity("full", multiple) is not None]
    facts = {"training_window": window}
    ends = [multiple * window for multiple in labels]
    names = summary.contexts()
    values = {name: [_log(summary.perplexity(name, multiple)) for multiple in labels] for name in names}
    ratios = {
        name: {"ratio": [summary.ratio(name, multiple).value for multiple in labels]}
        for name in names
        if name in compared_contexts()
    }
    return Curves.new(facts, ends, ends, values, ratios, index=index, step=summary.step, model=summary.model)


def _log(value: float | None) -> float | None:
    return float(np.log(value)) if value else None
