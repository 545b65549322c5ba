"""The sequences that an evaluation reads, with checks that split, model and protocol fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.config.run import EvaluationConfig
from tttkit.data.split import Split
from tttkit.errors import DataError, UsageError
from tttkit.models.scoring import ScoringModel

SEQUENCE_CHOICE = "spread"
"""Name of the choice in summary.json: sequences lie evenly over the split, so that few of them share a document."""


def cut_sequences(split: Split, num_sequences: int, max_length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut disjoint sequences of T+1 tokens, spread evenly over the split, in order.

    Returns the sequences, int64 (num_sequences, T+1), and their starts in the split, int64 (num_sequences,). All starts
    are multiples of T+1, so that a few sequences are a subset of all of them. Raises UsageError, DataError.
    """
    length = max_length + 1
    most = split.num_tokens // length
    if most == 0:
        raise DataError(
            f"the split has {split.num_tokens} tokens, but one sequence of T={max_length} needs {length}",
            hint="request a smaller maximum length, or prepare more text",
        )
    if num_sequences > most:
        raise UsageError(
            f"{num_sequences} sequences were requested, but the split holds {most} disjoint ones of T={max_length}",
            hint="request fewer sequences, or shorter ones",
        )
    starts = spread(most, num_sequences) * length
    tokens = np.stack([split.tokens(start, start + length) for start in starts.tolist()]).astype(np.int64)
    return tokens, starts


def spread(most: int, count: int) -> NDArray[np.int64]:
    """Spread `count` whole numbers evenly over 0 … most - 1, ascending, int64; a single one is 0."""
    return np.arange(count) * (most - 1) // max(1, count - 1)


def text_facts(split: Split) -> dict[str, Any]:
    """Return the facts of a split that summary.json needs to compare models with other tokenizers by bits per byte."""
    return {
        "tokenizer_sha256": split.tokenizer_sha256,
        "text_bytes": split.num_bytes,
        "text_words": split.num_words,
        "bytes_per_token": split.num_bytes / split.num_tokens,
    }


def check_vocabulary(model: ScoringModel, split: Split) -> None:
    """Refuse data with ids for which the model has no embedding. Raises DataError."""
    if split.vocab_size > model.vocab_size:
        raise DataError(
            f"the data's tokenizer has {split.vocab_size} tokens, but the model knows {model.vocab_size}",
            hint="prepare the data with the model's own tokenizer.json",
        )


def check_sizes(protocol: EvaluationConfig, window: int, mini_batch_size: int) -> None:
    """Refuse a window, chunk and inner mini-batch that do not fit together. Raises UsageError."""
    if window < mini_batch_size:
        raise UsageError(
            f"window must hold at least one inner mini-batch of the model, got {window} and {mini_batch_size}",
            hint="a fresh state learns nothing before its first mini-batch is full",
        )
    longest = min(window, protocol.max_length)
    if protocol.chunk_size > longest:
        raise UsageError(
            f"evaluation.chunk_size must be at most {longest}, the smaller of window ({window}) and max_length "
            f"({protocol.max_length}), got {protocol.chunk_size}"
        )


def check_positions(model: ScoringModel, longest: int | None, window: int) -> None:
    """Refuse a window beyond `longest`, the tokens for which the model has positions. Raises UsageError."""
    if longest is not None and window > longest:
        raise UsageError(
            f"window must be at most {longest}, the positions that the {model.name} model has, got {window}",
            hint="choose a smaller --window",
        )
