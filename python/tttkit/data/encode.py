"""Texts to ids with any tokenizer, on all threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tttkit._rust import Encoder
from tttkit.data.tokenizer import load_tokenizer

MAX_U16_VOCAB = 1 << 16


def dtype_for(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """uint16 when every id of the vocabulary fits, else uint32."""
    return np.dtype(np.uint16) if vocab_size <= MAX_U16_VOCAB else np.dtype(np.uint32)


def encode_documents(
    texts: Sequence[str], tokenizer: str | Path, *, num_threads: int = 0
) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.uint64]]:
    """Ids of all texts one after another, uint16 or uint32 `(N,)`, and where each begins, uint64 `(D + 1,)`.

    Equal to `encode(text, add_special_tokens=False)` of Hugging Face `tokenizers`; no end-of-text token is added.
    Raises UsageError for an unknown tokenizer, TypeError when `texts` is a single string.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings, got one string")
    loaded = load_tokenizer(str(tokenizer))
    ids, offsets = Encoder(loaded.json, num_threads).encode(list(texts))
    return ids.astype(dtype_for(loaded.vocab_size)), offsets
