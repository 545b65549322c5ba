"""Perplexity by position, in every context, with intervals. Names are loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttkit.evaluate.bootstrap import paired_bootstrap as paired_bootstrap
    from tttkit.evaluate.chunks import chunk_perplexity as chunk_perplexity
    from tttkit.evaluate.evaluation import Evaluation as Evaluation
    from tttkit.evaluate.measure import evaluate_model as evaluate_model
    from tttkit.evaluate.nll import token_nll as token_nll

_HOMES = {
    "Evaluation": "tttkit.evaluate.evaluation",
    "chunk_perplexity": "tttkit.evaluate.chunks",
    "evaluate_model": "tttkit.evaluate.measure",
    "paired_bootstrap": "tttkit.evaluate.bootstrap",
    "token_nll": "tttkit.evaluate.nll",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
