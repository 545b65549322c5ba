"""What is in a split: lengths of its documents, its end-of-text tokens, documents that occur more than once.

Reads every token once, in pieces; what grows with the data is some 20 bytes per document.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.data.split import Split

PIECE_TOKENS = 1 << 20
HASH_BYTES = 8
"""Of BLAKE2b over a document's ids: two of a hundred million different documents are alike with probability 3e-4."""
_SHARES = (5, 25, 50, 75, 95)

Progress = Callable[[int], None]
"""Called with the number of tokens read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """Figures of one split. Lengths are in tokens, the end-of-text token of a document included."""

    num_documents: int
    mean_length: float
    document_tokens: dict[str, int]
    """min, p5, p25, p50, p75, p95, max; a percentile is the length of a document (the lower one)."""
    histogram: list[tuple[int, int, int]]
    """(shortest, longest, documents) for lengths 1, 2, 3-4, 5-8 … from the shortest there is to the longest."""
    eos_share: float
    """Share of the tokens that are end-of-text."""
    num_eos_inside: int
    """End-of-text tokens that end no document: the text itself held them."""
    num_repeated: int
    """Documents equal to an earlier one of the split."""
    most_copies: int
    """How often the document that occurs most occurs; 1 where none is repeated."""
    num_also_in: dict[str, int]
    """Documents of this split that occur in another one, by its name."""

    def to_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return dataclasses.asdict(self)


def inspect_split(split: Split, others: dict[str, Split] | None = None, progress: Progress | None = None) -> Inspection:
    """Read `split`, and `others` to see which of its documents they hold too. Raises ShardError."""
    lengths = np.diff(split.document_ends, prepend=np.uint64(0))
    lengths.sort()
    quantiles, histogram = _quantiles(lengths), _histogram(lengths)
    del lengths
    hashes, num_eos = _document_hashes(split, progress or (lambda _: None))
    hashes.sort()
    repeats = hashes[1:] == hashes[:-1]
    return Inspection(
        num_documents=len(hashes),
        mean_length=split.num_tokens / len(hashes),
        document_tokens=quantiles,
        histogram=histogram,
        eos_share=num_eos / split.num_tokens,
        num_eos_inside=num_eos - len(hashes),
        num_repeated=int(np.count_nonzero(repeats)),
        most_copies=1 + _longest_run(repeats),
        num_also_in={name: _num_in(hashes, other) for name, other in (others or {}).items()},
    )


def window_starts(split: Split, window: int, count: int) -> list[int]:
    """Where up to `count` windows of `window` tokens begin, evenly spread over the split."""
    num_windows = max(1, (split.num_tokens - 1) // window)
    places = np.linspace(0, num_windows - 1, min(count, num_windows))
    return [int(place) * window for place in places]


def _document_hashes(split: Split, progress: Progress) -> tuple[NDArray[np.uint64], int]:
    """A hash per document, uint64 (num_documents,), and how many tokens are end-of-text."""
    hashes = np.empty(split.num_documents, dtype=np.uint64)
    digest, number, num_eos, ends = _new_hash(), 0, 0, split.document_ends
    for start in range(0, split.num_tokens, PIECE_TOKENS):
        piece = split.tokens(start, min(start + PIECE_TOKENS, split.num_tokens))
        num_eos += int(np.count_nonzero(piece == split.eos_id))
        stop = int(np.searchsorted(ends, start + len(piece), side="right"))
        begin, view = 0, piece.data
        for end in (ends[number:stop] - np.uint64(start)).tolist():
            digest.update(view[begin:end])
            hashes[number] = int.from_bytes(digest.digest(), "little")
            digest, number, begin = _new_hash(), number + 1, end
        digest.update(view[begin:])
        progress(start + len(piece))
    return hashes, num_eos


def _num_in(hashes: NDArray[np.uint64], other: Split) -> int:
    theirs, _ = _document_hashes(other, lambda _: None)
    theirs.sort()
    places = np.searchsorted(theirs, hashes)
    np.minimum(places, len(theirs) - 1, out=places)
    return int(np.count_nonzero(theirs[places] == hashes))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Most true flags one after another."""
    padded = np.concatenate(([False], flags, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _new_hash() -> Any:
    return hashlib.blake2b(digest_size=HASH_BYTES)


def _quantiles(lengths: NDArray[np.uint64]) -> dict[str, int]:
    """Of sorted lengths."""
    places = {f"p{share}": (len(lengths) - 1) * share // 100 for share in _SHARES}
    return {name: int(lengths[at]) for name, at in {"min": 0, **places, "max": -1}.items()}


def _histogram(lengths: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
    """Of sorted lengths."""
    rows: list[tuple[int, int, int]] = []
    shortest, longest, below = 1, 1, 0
    while below < len(lengths):
        until = int(np.searchsorted(lengths, longest, side="right"))
        if rows or until > below:
            rows.append((shortest, longest, until - below))
        shortest, longest, below = longest + 1, 2 * longest, until
    return rows
