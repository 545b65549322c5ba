"""The figures behind the curves of report.html as plain values: rounded, thinned, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tttkit.analyze.contest import PREFIXES, WINDOWED
from tttkit.report.curves import load_curves, load_means
from tttkit.run.directory import RunDirectory

MOST_CHECKPOINTS = 100
"""A longer run is thinned evenly to so many checkpoints, which keeps the page below a megabyte or two."""
_MOST_STEPS = 600


def page_data(
    curves: list[dict[str, Any]],
    summaries: list[dict[str, Any]],
    metrics: list[dict[str, Any]],
    best: int | None,
    against: Sequence[RunDirectory],
) -> dict[str, Any]:
    """All that `page.js` shows: curves of the checkpoints, last curves of the runs `against`, and training.

    `curves` are those of `load_curves`, `best` is the index of the best evaluation. Raises as `load_curves` does.
    """
    return {
        "window": summaries[-1].get("training_window"),
        "contexts": [name for name in PREFIXES if any(_ppl(item, name) for item in curves)],
        "labels": _labels(summaries[-1]),
        "checkpoints": [_checkpoint(item, best) for item in _thin(curves, MOST_CHECKPOINTS)],
        "baselines": [_baseline(other, load_curves(other)[-1]) for other in against if not load_means(other)],
        "evolution": _evolution(summaries),
        "training": _training(metrics),
    }


def _checkpoint(item: dict[str, Any], best: int | None) -> dict[str, Any]:
    index = item.get("checkpoint_idx", 0)
    found: dict[str, Any] = {"index": index, "step": item["step"] or 0, "best": index == best, "ends": item["ends"]}
    found["ppl"] = {name: _ppl(item, name) for name in PREFIXES if _ppl(item, name)}
    for key, part in (("ratio", "ratio"), ("low", "ratio_low"), ("high", "ratio_high")):
        found[key] = {name: _round(item[f"{name}_{part}"]) for name in WINDOWED if item.get(f"{name}_{part}")}
    return found


def _baseline(run: RunDirectory, item: dict[str, Any]) -> dict[str, Any]:
    return {"name": run.path.name or str(run.path), "ends": item["ends"], "ppl": _ppl(item, "full")}


def _evolution(summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    steps = [item.get("step") or 0 for item in summaries]
    return [
        {
            "name": f"{multiple} x W",
            "x": steps,
            "y": _round([item.get(f"ttt_ppl_at_{multiple}xW") for item in summaries]),
        }
        for multiple in _labels(summaries[-1])
    ]


def _training(metrics: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Logged losses, thinned, and their average over about the last fiftieth of the run."""
    smoothed, average, weight = [], 0.0, 0.0
    keep = 1 - 1 / max(1.0, 0.02 * len(metrics))
    for record in metrics:
        loss = record.get("loss")
        if isinstance(loss, int | float) and math.isfinite(loss):
            average, weight = keep * average + (1 - keep) * loss, keep * weight + (1 - keep)
        smoothed.append((record["step"], loss, average / weight if weight else None))
    shown = _thin(smoothed, _MOST_STEPS)
    columns = [list(column) for column in zip(*shown, strict=True)] if shown else [[], [], []]
    return {"step": columns[0], "loss": _round(columns[1]), "smooth": _round(columns[2])}


def _labels(summary: dict[str, Any]) -> list[int]:
    found = [key.removeprefix("ttt_ppl_at_").removesuffix("xW") for key in summary if key.startswith("ttt_ppl_at_")]
    return sorted(int(label) for label in found if summary[f"ttt_ppl_at_{label}xW"] is not None)


def _ppl(curves: dict[str, Any], context: str) -> list[float | None]:
    """Perplexities of a context; empty where none of them is known."""
    values = curves.get(f"{context}_mean_nll") or []
    ppls = [math.exp(value) if isinstance(value, int | float) and value < 700 else None for value in values]
    return _round(ppls) if any(value is not None for value in ppls) else []


def _round(values: Sequence[Any]) -> list[float | None]:
    """Five significant digits, which is more than a screen shows and half of the page's size."""
    return [
        float(f"{value:.5g}") if isinstance(value, int | float) and math.isfinite(value) else None for value in values
    ]


def _thin(values: list[Any], most: int) -> list[Any]:
    if len(values) <= most:
        return values
    return [values[index * (len(values) - 1) // (most - 1)] for index in range(most)]
