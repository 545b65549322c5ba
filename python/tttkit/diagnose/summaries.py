"""Figures of a diagnosis with their intervals over texts, as values of diagnose.json.

Shapes: N texts, T tokens, P positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze.intervals import bootstrap
from tttkit.diagnose import effective_memory
from tttkit.diagnose.key_tokens import masked_mean
from tttkit.results.contexts import labels_within


def perplexity_bands(nll: NDArray[np.float32], keys: NDArray[np.bool_] | None, window: int) -> list[dict[str, Any]]:
    """Return the perplexity of all tokens and of key tokens, by bands of positions that end at the labels.

    `nll` (N, T) is in nats, and NaN where it is not known; `keys` (N, T) says which tokens are key tokens.
    """
    bands, first, place = [], 0, np.arange(nll.shape[1])
    for label in labels_within(window, nll.shape[1]):
        last = label * window
        inside = np.broadcast_to((place >= first) & (place < last), nll.shape)
        band = {"label": label, "first": first + 1, "last": last, **_perplexities("ppl", "tokens", nll, inside)}
        if keys is not None:
            band |= _perplexities("key_ppl", "key_tokens", nll, inside & keys)
        bands.append(band)
        first = last
    return bands


def _perplexities(
    name: str, count: str, nll: NDArray[np.float32], mask: NDArray[np.bool_]
) -> dict[str, float | int | None]:
    mean = masked_mean(nll, mask)
    with np.errstate(over="ignore"):
        values = np.exp([mean.value, mean.low, mean.high])
    known = [None if np.isnan(value) else float(value) for value in values]
    return {**dict(zip((name, f"{name}_low", f"{name}_high"), known, strict=True)), count: mean.count}


def memory_values(variations: dict[int, NDArray[np.float64]]) -> dict[str, Any]:
    """Return the effective memory and the curve of the total variation, with intervals over sequences."""
    curve = bootstrap(np.stack(list(variations.values()), axis=1))
    interval = effective_memory.memory_interval(variations)
    low, high = (None, None) if interval is None else interval
    return {
        "effective": int(effective_memory.effective_memory(variations)), "effective_low": low, "effective_high": high,
        "tokens": list(variations), **{
            name: [None if np.isnan(each) else float(each) for each in getattr(curve, field)]
            for name, field in (("variation", "observed"), ("low", "low"), ("high", "high"))
        },
    }  # fmt: skip


def means(values: NDArray[np.float64]) -> dict[str, list[float | None]]:
    """Return the means over sequences of (N, P) with intervals."""
    result = bootstrap(values)
    return {
        name: [None if np.isnan(each) else float(each) for each in getattr(result, field)]
        for name, field in (("mean", "observed"), ("low", "low"), ("high", "high"))
    }
