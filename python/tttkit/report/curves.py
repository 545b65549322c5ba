"""Curves of a run's evaluations as plain values, from chunk_eval.json or from the labelled points of a summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze import legacy
from tttkit.errors import DataError, UsageError
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

CONTEXTS = ("full", "sw", "sw_aligned", "reset")
LABELS = (1, 2, 5, 10, 20, 50, 100)


def load_curves(run: RunDirectory) -> list[dict[str, Any]]:
    """Curves of every evaluated checkpoint with its step, in order of step; labelled points where no curve was kept.

    Raises UsageError when the run has no evaluation yet, DataError when a file is damaged.
    """
    loaded: list[dict[str, Any]] = []
    for summary in legacy.read_summaries(run):
        path = run.checkpoint(int(summary.get("checkpoint_idx", len(loaded)))) / "chunk_eval.json"
        curves = _read_curves(path) if path.exists() else summary.get("curves") or _curves_of_summary(summary)
        index = summary.get("checkpoint_idx", len(loaded))
        loaded.append({"model": summary.get("model"), **curves, "step": summary["step"], "checkpoint_idx": index})
    loaded = [curves for curves in loaded if curves["ends"]]
    if not loaded:
        raise UsageError(f"{run.path} has no evaluation yet", hint=f"look at it with `tttkit status {run.argument}`")
    return sorted(loaded, key=lambda curves: int(curves["step"] or 0))


def load_means(run: RunDirectory) -> list[dict[str, Any]]:
    """Summaries of a run whose files hold means over all positions and no figure by position; else nothing."""
    summaries = legacy.read_summaries(run)
    labelled = any(key.startswith("ttt_ppl_at_") for summary in summaries for key in summary)
    return [] if labelled else [item for item in summaries if item.get("ttt_ppl_mean") is not None]


def perplexity(curves: dict[str, Any], context: str) -> NDArray[np.float64]:
    """Perplexity per chunk; NaN where it was not computed or left float64."""
    values = floats(curves.get(f"{context}_mean_nll"))
    nll = values if values.size else np.full(len(curves["ends"]), np.nan)
    return np.exp(np.where(nll < 709, nll, np.nan))


def floats(values: Sequence[Any] | None) -> NDArray[np.float64]:
    """Values with NaN for None and for the strings that JSON has instead of what is not finite."""
    return np.array([value if isinstance(value, int | float) else np.nan for value in values or ()], dtype=np.float64)


def ratio_at(summary: dict[str, Any], multiple: int) -> float | None:
    """SW/full at `multiple` x W; of the earlier system, which kept none, of its two perplexities."""
    known = summary.get(f"ratio_at_{multiple}xW")
    if isinstance(known, int | float):
        return float(known)
    full, window = (summary.get(f"{prefix}_ppl_at_{multiple}xW") for prefix in ("ttt", "sw"))
    if not isinstance(full, int | float) or not isinstance(window, int | float):
        return None
    return float(window / full)


def _read_curves(path: Path) -> dict[str, Any]:
    """chunk_eval.json. Raises DataError unless it has a window and, per context, a value or null for every chunk."""
    curves = files.read_json(path)
    ends = curves.get("ends") if isinstance(curves, dict) else None
    if not isinstance(ends, list) or not ends or not isinstance(curves.get("training_window"), int):
        raise DataError(f"{path} holds no curves: expected `training_window` and a list `ends`")
    for name in (f"{context}_mean_nll" for context in CONTEXTS):
        values = curves.get(name)
        if not isinstance(values, list) or len(values) != len(ends):
            raise DataError(f"{path}: `{name}` must list a value or null for each of the {len(ends)} chunks")
    return dict(curves)


def _curves_of_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The labelled points of a summary, for evaluations whose curves were not kept."""
    window = int(summary.get("training_window", 0))
    known = [multiple for multiple in LABELS if summary.get(f"ttt_ppl_at_{multiple}xW") is not None]
    curves: dict[str, Any] = {"training_window": window, "ends": [multiple * window for multiple in known]}
    for context, prefix in (("full", "ttt"), ("sw", "sw")):
        values = [summary.get(f"{prefix}_ppl_at_{multiple}xW") for multiple in known]
        curves[f"{context}_mean_nll"] = [float(np.log(value)) if value else None for value in values]
    curves["sw_ratio"] = [ratio_at(summary, multiple) for multiple in known]
    return curves
