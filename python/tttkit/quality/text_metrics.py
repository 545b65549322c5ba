"""Figures of continuations as token ids: repetition, loops, distinct n-grams.

Each function returns one number per continuation whose mean is the figure, so that intervals and paired differences
have the prompt as their unit. Shapes: N continuations, M tokens each.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

LEAST_PERIOD, LEAST_REPEATS = 2, 3
"""A loop is a phrase of at least two tokens that ends a text and stands there three times in a row (Holtzman et al.,
arXiv 1904.09751)."""
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def rep_n(ids: Ids, n: int) -> Floats:
    """Return the share of n-grams that repeat an earlier one of the same text: 1 - unique / all (arXiv 2202.06417)."""
    return np.array([1 - len(set(grams)) / len(grams) for grams in (_grams(row, n) for row in ids)])


def ends_in_loop(ids: Ids) -> Floats:
    """Return 1 for a text that ends in a loop, else 0."""
    return np.array([float(_loops(row.tolist())) for row in ids])


def distinct_n(ids: Ids, n: int) -> Floats:
    """Return what each text adds to distinct-n (arXiv 1510.03055): unique n-grams of all texts / number of n-grams.

    The ratio is one of all texts together. The numbers are jackknife pseudo-values, shifted so that their mean is it.
    """
    grams = [_grams(row, n) for row in ids]
    counts = Counter(gram for row in grams for gram in row)
    total = sum(map(len, grams))
    whole = len(counts) / total
    if len(grams) < 2:
        return np.array([whole])
    without = []
    for row in grams:
        lost = sum(counts[gram] == number for gram, number in Counter(row).items())
        without.append((len(counts) - lost) / (total - len(row)))
    pseudo = len(grams) * whole - (len(grams) - 1) * np.array(without)
    shifted: Floats = pseudo - pseudo.mean() + whole
    return shifted


def _grams(row: Ids, n: int) -> list[tuple[int, ...]]:
    tokens = row.tolist()
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _loops(tokens: list[int]) -> bool:
    return any(
        tokens[-period:] * LEAST_REPEATS == tokens[-period * LEAST_REPEATS :]
        for period in range(LEAST_PERIOD, len(tokens) // LEAST_REPEATS + 1)
    )
