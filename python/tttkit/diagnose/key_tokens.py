"""Key tokens: those that an evaluator predicts well only because of a long context (LongPPL, arXiv 2410.23771).

A token is a key token if the evaluator's NLL is at most `MOST_NLL` with the full context, and at least `LEAST_GAIN`
higher with a short one. Both bounds are the paper's. The short context are windows of W tokens that start every W/4
tokens, and the last W/4 tokens of each are scored, of the first window all. Both contexts are the same there, so none
of its tokens is a key token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze.intervals import bootstrap
from tttkit.evaluate.bos import bos_in_front
from tttkit.evaluate.memory import fitting_segment
from tttkit.evaluate.nll import score_strided, token_nll
from tttkit.evaluate.runner import Runner
from tttkit.models.scoring import ScoringModel

LEAST_GAIN = 2.0
"""Nats per token that the long context must win."""
MOST_NLL = 2.0
"""Nats per token with the long context."""
FEWEST_TEXTS = 5
"""Texts with such tokens below which a mean has no interval: that of two or three spans many orders of magnitude."""
SHORT_COST = 4
"""Tokens that the short context reads per token of the text."""


def choose_key_tokens(
    model: ScoringModel, tokens: NDArray[np.int64], window: int, bos: str, progress: Callable[[float], None]
) -> NDArray[np.bool_]:
    """Return which of the predicted tokens, (N, T) for tokens (N, T+1), are key tokens by the evaluator `model`."""
    length = tokens.shape[1] - 1
    long = token_nll(
        model, tokens, segment=fitting_segment(model, length), bos=bos,
        progress=lambda share: progress(share / (1 + SHORT_COST)),
    )  # fmt: skip
    short = short_nll(model, tokens, window, bos, lambda share: progress((1 + SHORT_COST * share) / (1 + SHORT_COST)))
    is_key: NDArray[np.bool_] = (long <= MOST_NLL) & (short - long >= LEAST_GAIN)
    return is_key


def short_nll(
    model: ScoringModel, tokens: NDArray[np.int64], window: int, bos: str, progress: Callable[[float], None]
) -> NDArray[np.float32]:
    """Return the NLL (N, T) in nats of tokens (N, T+1) given the last 3/4 W … W tokens."""
    import torch

    runner = Runner(model, torch.from_numpy(tokens), None, bos_in_front(model, bos), progress)
    was_training = model.training
    model.eval()
    try:
        stride = max(1, window // SHORT_COST)
        score_strided(runner, window, np.ones(tokens.shape[1] - 1, dtype=bool), stride)
        runner.run()
    finally:
        model.train(was_training)
    return runner.nll


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    """Mean NLL per token with its 95 % interval over sequences, and the number of tokens; NaN for what is not known."""

    value: float
    low: float
    high: float
    count: int


def masked_mean(nll: NDArray[np.float32], mask: NDArray[np.bool_]) -> Mean:
    """Return the mean of the NLL (N, T) at the tokens of a mask, as a ratio of sums over sequences.

    The interval is that of the residuals `sum - mean x count` of each sequence that has such tokens, divided by their
    mean count.
    """
    used = mask & np.isfinite(nll)
    used, nll = used[used.any(axis=1)], nll[used.any(axis=1)]
    sums = np.where(used, nll, 0.0).sum(axis=1, dtype=np.float64)
    counts = used.sum(axis=1)
    if not counts.size:
        return Mean(value=np.nan, low=np.nan, high=np.nan, count=0)
    value = sums.sum() / counts.sum()
    if counts.size < FEWEST_TEXTS:
        return Mean(value=float(value), low=np.nan, high=np.nan, count=int(counts.sum()))
    residuals = (sums - value * counts) / counts.mean()
    intervals = bootstrap(residuals[:, None])
    return Mean(
        value=float(value), low=float(value + intervals.low[0]), high=float(value + intervals.high[0]),
        count=int(counts.sum()),
    )  # fmt: skip
