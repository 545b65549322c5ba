"""Unigram perplexity: the perplexity of token frequencies alone, which any trained model must beat by far."""

from __future__ import annotations

import math

import numpy as np

from tttkit.data.split import Split

_BLOCK_TOKENS = 1 << 22


def unigram_perplexity(split: Split) -> float:
    """Return exp of the entropy in nats of a split's token frequencies. Read the split once, in bounded memory."""
    counts = np.zeros(split.vocab_size, dtype=np.int64)
    for start in range(0, split.num_tokens, _BLOCK_TOKENS):
        block = split.tokens(start, min(start + _BLOCK_TOKENS, split.num_tokens))
        counts += np.bincount(block, minlength=split.vocab_size)
    shares = counts[counts > 0] / split.num_tokens
    return math.exp(-float(np.sum(shares * np.log(shares))))
