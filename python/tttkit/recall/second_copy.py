"""The task second-copy: real text in which a passage comes again after d tokens. It needs no training.

An example is W tokens of text, the next 64 tokens (the passage), the d tokens that follow it, and the passage again.
The first token of a copy is not scored, because nothing announces the second copy. The score is the drop of the NLL
from the first copy to the second. All distances use the same passages, so that they can be compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze.intervals import bootstrap, over_groups
from tttkit.data.split import Split
from tttkit.errors import DataError, UsageError
from tttkit.evaluate.blocks import NllBlocks
from tttkit.evaluate.memory import fitting_segment
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.request import EvaluationJob
from tttkit.evaluate.sequences import check_vocabulary
from tttkit.models.scoring import ScoringModel
from tttkit.results.recall import SECOND_COPY, Recall, RecallRow

Copies = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The mean NLL of each first and of each second copy."""
PASSAGE = 64
"""Tokens of the passage."""
MULTIPLES = (0, 1, 2, 5, 10, 20)
"""The usual distances, as multiples of the window W."""


def measure(
    job: EvaluationJob,
    *,
    distances: Sequence[int],
    num_examples: int,
    seed: int,
    blocks: NllBlocks | None = None,
    progress: Callable[[float], None] | None = None,
) -> Recall:
    """Measure the drop of the NLL at each distance in tokens; finished distances are kept in `blocks`.

    Raises UsageError, DataError before anything is scored.
    """
    check(job, distances, num_examples)
    texts, starts = sample(job.split, job.window + PASSAGE + max(distances), num_examples, seed)
    documents = np.searchsorted(job.split.document_ends, starts + job.window, side="right")
    total, done = sum(job.window + 2 * PASSAGE + distance for distance in distances), 0
    first, second = np.empty((2, num_examples, len(distances)))
    for column, distance in enumerate(distances):
        tokens = with_second_copy(texts, job.window, distance)
        pair = _kept(
            blocks, f"distance-{distance}", functools.partial(copy_nll, job.model, tokens, job.window, job.bos)
        )
        first[:, column], second[:, column] = pair
        done += tokens.shape[1]
        if progress is not None:
            progress(done / total)
    return _result(job, distances, first, second, documents, seed)


def check(job: EvaluationJob, distances: Sequence[int], num_examples: int) -> None:
    """Raise UsageError or DataError if the model cannot read the examples or the split does not hold them."""
    check_vocabulary(job.model, job.split)
    _check_length(job.model, job.window + 2 * PASSAGE + max(distances))
    _num_starts(job.split, job.window + PASSAGE + max(distances), num_examples)


def _kept(blocks: NllBlocks | None, name: str, compute: Callable[[], Copies]) -> Copies:
    """Return what `compute` returns, or what an earlier call kept of it."""
    if blocks is None:
        return compute()
    arrays = blocks.arrays(name, lambda: dict(zip(("first", "second"), compute(), strict=True)))
    return arrays["first"], arrays["second"]


def sample(split: Split, length: int, num_examples: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (num_examples, length) tokens from random places, all different, and where they start, ascending.

    Raises DataError for a short split.
    """
    num_starts = _num_starts(split, length, num_examples)
    starts = np.sort(np.random.default_rng(seed).choice(num_starts, num_examples, replace=False))
    texts = np.stack([split.tokens(start, start + length) for start in starts.tolist()]).astype(np.int64)
    return texts, starts


def _num_starts(split: Split, length: int, num_examples: int) -> int:
    """Return the number of places where a text of `length` tokens can start. Raises DataError for too few."""
    num_starts = split.num_tokens - length + 1
    if num_starts < num_examples:
        raise DataError(
            f"expected at least {length + num_examples - 1:,} tokens in the split, got {split.num_tokens:,}",
            hint="use shorter --distance or --length, fewer --num-examples or more text",
        )
    return num_starts


def with_second_copy(texts: NDArray[np.int64], lead: int, distance: int) -> NDArray[np.int64]:
    """Return (N, lead + 64 + distance + 64): the start of each text, and its tokens `lead … lead + 63` again."""
    return np.concatenate([texts[:, : lead + PASSAGE + distance], texts[:, lead : lead + PASSAGE]], axis=1)


def copy_nll(model: ScoringModel, tokens: NDArray[np.int64], lead: int, bos: str = "never") -> Copies:
    """Return the mean NLL in nats of each first and each second copy, (N,) each, without its first token."""
    length = tokens.shape[1] - 1
    first = np.arange(lead, lead + PASSAGE - 1)
    second = np.arange(length - PASSAGE + 1, length)
    nll = token_nll(
        model, tokens, positions=np.concatenate([first, second]), segment=fitting_segment(model, length), bos=bos
    )
    return nll[:, first].mean(axis=1, dtype=np.float64), nll[:, second].mean(axis=1, dtype=np.float64)


def _check_length(model: ScoringModel, longest: int) -> None:
    if model.max_positions is not None and longest > model.max_positions:
        raise UsageError(
            f"the longest example has {longest:,} tokens, but {model.name} has {model.max_positions:,} positions",
            hint="name shorter distances: --distance D",
        )


def _result(
    job: EvaluationJob,
    distances: Sequence[int],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    documents: NDArray[np.int64],
    seed: int,
) -> Recall:
    drops = first - second
    intervals = bootstrap(drops)
    over_documents = over_groups(drops, documents.tolist())
    rows = tuple(
        RecallRow(
            distance=distance, first=float(first[:, i].mean()), second=float(second[:, i].mean()),
            drop=float(intervals.observed[i]), low=float(intervals.low[i]), high=float(intervals.high[i]),
            document_low=None if over_documents is None else float(over_documents.low[i]),
            document_high=None if over_documents is None else float(over_documents.high[i]),
        )
        for i, distance in enumerate(distances)
    )  # fmt: skip
    kept = ("model", "path", "split", "data_fingerprint", "weights_sha256", "dtype", "bos_id")
    facts = {
        "task": SECOND_COPY, **{name: job.facts.get(name) for name in kept}, "window": job.window, "passage": PASSAGE,
        "num_examples": len(drops), "num_documents": len(set(documents.tolist())), "documents": documents.tolist(),
        "seed": seed,
    }  # fmt: skip
    return Recall.of(facts, rows, drops=drops.tolist())
