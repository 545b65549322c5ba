"""Figures that do not depend on the tokenizer: bits per byte, for models that read the same text in other tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tttkit.results.summary import Summary

_TEXT = ("text_bytes", "text_words")
"""Keys of summary.json that are equal for equal text, whatever its tokenizer."""


def only_tokenizers_differ(summaries: Sequence[Summary]) -> bool:
    """Return whether evaluations read text of the same size in tokens of different tokenizers."""
    texts = {tuple(summary.get(key) for key in _TEXT) for summary in summaries}
    tokenizers = {summary.get("tokenizer_sha256") for summary in summaries}
    known = None not in tokenizers and all(None not in text for text in texts)
    return known and len(texts) == 1 and len(tokenizers) > 1


def bits_per_byte(summary: Summary, context: str, multiple: int) -> float | None:
    """Return the bits per byte of a context at `multiple` x W, from its perplexity and the mean bytes of a token."""
    perplexity, size = summary.perplexity(context, multiple), summary.value("bytes_per_token")
    return None if perplexity is None or not size else math.log2(perplexity) / size
