"""Paired differences between models that continued the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tttkit.analyze.intervals import bootstrap
from tttkit.results.quality import METRICS, TEXT, Quality


def figure_of(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean with its 95 % interval over prompts; None where there is none."""
    result = bootstrap(np.asarray(values, dtype=np.float64)[:, None])
    named = {"value": result.observed[0], "low": result.low[0], "high": result.high[0]}
    return {name: None if np.isnan(value) else float(value) for name, value in named.items()}


def differences(results: Sequence[tuple[str, Quality]]) -> list[dict[str, Any]]:
    """Return per further model and cell the differences to the first model, with intervals paired by prompt.

    The real text is the last "model" of the list. Models with other prompts are left out.
    """
    if not results:
        return []
    first_name, first = results[0]
    rows = []
    for name, other in results[1:]:
        if not first.has_prompts_of(other):
            continue
        cells = {(cell["length"], cell["method"]): cell for cell in other.cells}
        for cell in first.cells:
            match = cells.get((cell["length"], cell["method"]))
            if match is not None and cell["method"] != TEXT:
                rows.append(_row(name, first_name, first.prompt_of(cell), cell, match))
    text = next((cell for cell in first.cells if cell["method"] == TEXT), None)
    if text is not None:
        rows += [
            _row("real text", first_name, first.prompt_of(cell), cell, text)
            for cell in first.cells
            if cell["method"] != TEXT
        ]
    return rows


def _row(name: str, first: str, prompt: str, cell: Any, other: Any) -> dict[str, Any]:
    """Return the differences `other - cell` of every figure that both have."""
    found = {}
    for metric in METRICS:
        a, b = (np.array(each["per_prompt"].get(metric) or [], dtype=np.float64) for each in (cell, other))
        if a.size and a.shape == b.shape:
            found[metric] = figure_of((b - a).tolist())
    return {"model": name, "minus": first, "prompt": prompt, "method": cell["method"], "differences": found}
