"""The figures behind the curves of report.html as plain values: rounded, thinned, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from tttkit.analyze.curves import load_curves, load_means
from tttkit.report.page import colours
from tttkit.results.contexts import CONTEXTS, compared_contexts
from tttkit.results.curves import Curves
from tttkit.results.summary import Summary
from tttkit.results.values import number
from tttkit.run.directory import RunDirectory

MOST_EVALUATIONS = 100
"""Longer runs are thinned evenly to this many evaluations, which keeps the page below a megabyte or two."""
_MOST_STEPS = 600
_SMOOTHING_SHARE = 0.02
"""Share of the run that the smoothed loss averages over."""
_LARGEST_NLL = 700
"""Nats per token above which a perplexity is left out, because it comes close to the limit of float64."""
_Item = TypeVar("_Item")


def page_data(
    curves: Sequence[Curves],
    summaries: Sequence[Summary],
    metrics: Sequence[dict[str, Any]],
    best: int | None,
    against: Sequence[RunDirectory],
) -> dict[str, Any]:
    """Return everything that `page.js` shows: curves of the evaluations, last curves of the runs `against`, training.

    `curves` come from `load_curves`; `best` is the index of the best evaluation. Raises as `load_curves` does.
    """
    last = summaries[-1]
    labels = [label for label in last.labels() if last.perplexity("full", label) is not None]
    return {
        "window": last.window,
        "contexts": [_context(name) for name in CONTEXTS if any(_perplexities(item, name) for item in curves)],
        "labels": labels,
        "evaluations": [_evaluation(item, best) for item in _thin(curves, MOST_EVALUATIONS)],
        "baselines": [_baseline(other, load_curves(other)[-1]) for other in against if not load_means(other)],
        "evolution": [_evolution(summaries, label) for label in labels],
        "training": _training(metrics),
    }


def _context(name: str) -> dict[str, str]:
    colour = f"var({colours.variable(name)})"
    return {"name": name, "description": CONTEXTS[name].description, "colour": colour, "dash": colours.dash(name)}


def _evaluation(curves: Curves, best: int | None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "index": curves.index or 0, "step": curves.step or 0, "best": curves.index == best, "ends": curves.ends,
        "ppl": {name: ppl for name in CONTEXTS if (ppl := _perplexities(curves, name))},
    }  # fmt: skip
    for key, part in (("ratio", "ratio"), ("low", "ratio_low"), ("high", "ratio_high")):
        ratios = {name: curves.ratio(name, part) for name in compared_contexts()}
        values[key] = {name: _round(ratio) for name, ratio in ratios.items() if ratio}
    return values


def _baseline(run: RunDirectory, curves: Curves) -> dict[str, Any]:
    return {"name": run.path.name or str(run.path), "ends": curves.ends, "ppl": _perplexities(curves, "full")}


def _evolution(summaries: Sequence[Summary], label: int) -> dict[str, Any]:
    values = [item.perplexity("full", label) for item in summaries]
    return {"name": f"{label} x W", "x": [item.step or 0 for item in summaries], "y": _round(values)}


def _training(metrics: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return logged losses and their exponential average, thinned."""
    points: list[tuple[Any, float | None, float | None]] = []
    average, weight = 0.0, 0.0
    keep = 1 - 1 / max(1.0, _SMOOTHING_SHARE * len(metrics))
    for record in metrics:
        loss = number(record.get("loss"))
        if loss is not None:
            average, weight = keep * average + (1 - keep) * loss, keep * weight + (1 - keep)
        points.append((record["step"], loss, average / weight if weight else None))
    shown = _thin(points, _MOST_STEPS)
    return {
        "step": [step for step, _, _ in shown],
        "loss": _round([loss for _, loss, _ in shown]),
        "smooth": _round([smooth for _, _, smooth in shown]),
    }


def _perplexities(curves: Curves, context: str) -> list[float | None]:
    """Return the perplexities of a context; empty if none is known."""
    values = curves.mean_nll(context)
    ppls = [math.exp(value) if value is not None and value < _LARGEST_NLL else None for value in values]
    return _round(ppls) if any(ppl is not None for ppl in ppls) else []


def _round(values: Sequence[float | None]) -> list[float | None]:
    """Round to five significant digits, which is more than a screen shows and halves the size of the page."""
    return [None if value is None else float(f"{value:.5g}") for value in values]


def _thin(values: Sequence[_Item], most: int) -> Sequence[_Item]:
    if len(values) <= most:
        return values
    return [values[index * (len(values) - 1) // (most - 1)] for index in range(most)]
