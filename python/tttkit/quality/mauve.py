"""MAUVE (arXiv 2102.01454) between continuations and real text, with the package mauve-text if it is installed.

The features are the judge's logits after each text, because no other model is at hand offline. The score is therefore
comparable only between models with the same judge, not with published scores.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FEWEST = 100
"""Continuations below which the clusters of MAUVE hold too few texts."""


def obstacle(num_prompts: int, *, has_judge: bool) -> str | None:
    """Return why MAUVE is left out, or None."""
    if importlib.util.find_spec("mauve") is None:
        return "its package is not installed: pip install 'tttkit[quality]'"
    if not has_judge:
        return "it needs a judge (--judge MODEL)"
    if num_prompts < FEWEST:
        return f"it needs at least {FEWEST} prompts (--num-prompts)"
    return None


def score(written: NDArray[np.float32], real: NDArray[np.float32], seed: int) -> float:
    """Return MAUVE of features (N, F) of continuations and of real texts: 0 for disjoint texts, 1 for equal ones."""
    import mauve

    with _silent():
        result = mauve.compute_mauve(p_features=written, q_features=real, verbose=False, seed=seed % 2**31)
    return float(result.mauve)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discard what the clustering prints: it is C++ and writes to the descriptors of the process."""
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in kept:
            os.dup2(null, descriptor)
        yield
    finally:
        for descriptor, copy in kept.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null)
