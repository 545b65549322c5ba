"""The unigram perplexity against direct counting."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tttkit.evaluate.unigram import unigram_perplexity


def expected_perplexity(split) -> float:
    tokens = split.tokens(0, split.num_tokens).tolist()
    counts = Counter(tokens)
    nll = -sum(math.log(counts[token] / len(tokens)) for token in tokens) / len(tokens)
    return math.exp(nll)


def test_it_equals_direct_counting(validation_split):
    perplexity = unigram_perplexity(validation_split)
    assert perplexity == pytest.approx(expected_perplexity(validation_split), rel=1e-9)
    assert 1 < perplexity < validation_split.vocab_size


def test_the_size_of_the_blocks_does_not_matter(validation_split, monkeypatch):
    monkeypatch.setattr("tttkit.evaluate.unigram._BLOCK_TOKENS", 1000)
    assert validation_split.num_tokens > 1000
    assert unigram_perplexity(validation_split) == pytest.approx(expected_perplexity(validation_split), rel=1e-9)
