"""Encode texts into token ids with any tokenizer, on all threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tttkit._rust import Encoder
from tttkit.data.tokenizer import load_tokenizer

MAX_U16_VOCAB = 1 << 16
"""Largest vocabulary whose ids fit uint16."""


def dtype_for(vocab_size: int) -> type[np.uint16 | np.uint32]:
    """Return uint16 if every id of the vocabulary fits, else uint32."""
    return np.uint16 if vocab_size <= MAX_U16_VOCAB else np.uint32


def narrow(ids: NDArray[np.uint32], vocab_size: int) -> NDArray[np.uint16] | NDArray[np.uint32]:
    """Return the ids in the dtype of their vocabulary."""
    return ids if dtype_for(vocab_size) is np.uint32 else ids.astype(np.uint16)


def encode_documents(
    texts: Sequence[str], tokenizer: str | Path, *, threads: int | None = None
) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.uint64]]:
    """Return the ids of all texts in one array, uint16 or uint32 `(N,)`, and their offsets in it, uint64 `(D + 1,)`.

    The ids equal those of `encode(text, add_special_tokens=False)` in Hugging Face `tokenizers`; no end-of-text token
    is added. `threads` None means all cores. The encoder uses the best vector instructions of the processor, or those
    that the environment variable TTTKIT_SIMD names while the tokenizer is loaded: avx512, avx2 or scalar.
    `prepare_dataset` uses the variable too. Raises UsageError for an unknown tokenizer, TypeError if `texts` is one
    string, ValueError if TTTKIT_SIMD names instructions that this processor lacks.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings, got one string")
    loaded = load_tokenizer(str(tokenizer))
    ids, offsets = loaded.encoder.encode(list(texts), threads or 0)
    return narrow(ids, loaded.vocab_size), offsets


def encode_all(encoder: Encoder, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text, without end-of-text tokens."""
    ids, borders = encoder.encode(texts, 1)
    return [part.tolist() for part in np.split(ids, borders[1:-1].astype(np.int64))]
