"""Score a whole split: token and word perplexity, bits per byte, with their counts; NLL by slot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.data.split import Split
from tttkit.errors import DataError
from tttkit.evaluate.arrays import check_size
from tttkit.evaluate.blocks import NllBlocks, share_of
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.runner import Progress
from tttkit.evaluate.sequences import check_vocabulary
from tttkit.models.scoring import ScoringModel

_BLOCK_TOKENS = 1 << 16
"""Tokens that are scored together, and saved together so that an evaluation can continue after a kill."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeSplit:
    """The score of a split: every token but the first once, in windows of `stride` tokens, each with a fresh state."""

    nll_sum: float
    """Nats over all scored tokens."""
    num_tokens: int
    """Tokens scored, including the ends of documents."""
    num_words: int
    """Words of the split's text, separated by white space."""
    num_bytes: int
    """UTF-8 bytes of the split's text."""
    stride: int
    """Tokens of a window; the context of a token is 1 … stride."""

    @property
    def token_ppl(self) -> float:
        """exp of nats per token."""
        return _exp(self.nll_sum / self.num_tokens)

    @property
    def word_ppl(self) -> float:
        """exp of nats per word: comparable between tokenizers."""
        return _exp(self.nll_sum / self.num_words)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text: comparable between tokenizers and languages."""
        return self.nll_sum / math.log(2) / self.num_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return figures and counts for JSON."""
        figures = {"token_ppl": self.token_ppl, "word_ppl": self.word_ppl, "bits_per_byte": self.bits_per_byte}
        return {**figures, **dataclasses.asdict(self)}


def score_split(
    model: ScoringModel,
    split: Split,
    *,
    stride: int,
    bos: str = "never",
    progress: Progress | None = None,
    blocks: NllBlocks | None = None,
) -> WholeSplit:
    """Score every token of a split once, in disjoint windows of `stride` tokens, the last one shorter.

    `bos` is as in `token_nll`. `progress` is called with the share done and may raise to stop. With `blocks`, finished
    parts are kept, so that the same call continues from there. Raises DataError for a split of fewer than two tokens or
    with ids that the model does not know.
    """
    check_size("stride", stride)
    check_vocabulary(model, split)
    if split.num_tokens < 2 or not split.num_words or not split.num_bytes:
        raise DataError(f"the split has {split.num_tokens} tokens, but a perplexity needs at least 2 and some text")
    scored = split.num_tokens - 1
    total = 0.0
    for start, rows, length in _pieces(scored, stride):
        compute = partial(token_nll, model, context="full", window=length, bos=bos)
        tick = share_of(progress, start / scored, rows * length / scored)
        windows = _windows(split, start, rows, length)
        if blocks is None:
            nll = compute(windows, progress=tick)
        else:
            nll = blocks.block(f"whole-{start:012d}", windows, compute, tick)
        total += float(nll.sum(dtype=np.float64))
        tick(1.0)
    return WholeSplit(
        nll_sum=total, num_tokens=scored, num_words=split.num_words, num_bytes=split.num_bytes, stride=stride
    )


def nll_by_slot(nll: NDArray[np.float32], mini_batch_size: int, window: int) -> list[float | None]:
    """Return the mean NLL beyond the window for each slot of the inner mini-batch, in nats; None if none is known.

    `nll` is (sequences, positions) of one context. Position i has slot i mod C if the state is carried or windows are
    aligned (`full`, `sw_aligned`, `reset`). Exact `sw` always scores slot C-1, so its values reflect only the text.
    """
    slots = np.arange(nll.shape[1]) % check_size("mini_batch_size", mini_batch_size)
    beyond = np.arange(nll.shape[1]) >= window
    means = []
    for slot in range(mini_batch_size):
        values = nll[:, beyond & (slots == slot)]
        known = values[np.isfinite(values)]
        means.append(float(known.mean(dtype=np.float64)) if known.size else None)
    return means


def _windows(split: Split, start: int, rows: int, length: int) -> NDArray[np.int64]:
    """Return windows (rows, length + 1); the last token of a row is the first token of the next row."""
    tokens = split.tokens(start, start + rows * length + 1).astype(np.int64)
    windows: NDArray[np.int64] = tokens[np.arange(rows)[:, None] * length + np.arange(length + 1)]
    return windows


def _pieces(scored: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first token, rows, length of a row): whole windows in blocks, then the remainder as one shorter window."""
    num_whole, most = scored // stride, max(1, _BLOCK_TOKENS // stride)
    for first in range(0, num_whole, most):
        yield first * stride, min(most, num_whole - first), stride
    if scored % stride:
        yield num_whole * stride, 1, scored % stride


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 709 else math.inf
