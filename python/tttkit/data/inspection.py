"""Inspect a split: the lengths of its documents, its end-of-text tokens, and documents that occur more than once.

Every token is read once, in pieces. Memory grows with the number of documents, by about 20 bytes each.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.data.split import Split

PIECE_TOKENS = 1 << 20
HASH_BYTES = 8
"""Length of the BLAKE2b hash of a document's ids: any two of 100 million documents collide with probability 3e-4."""
_SHARES = (5, 25, 50, 75, 95)

ReadProgress = Callable[[int], None]
"""Called with the number of tokens read so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """Figures of one split. A length is in tokens and includes the end-of-text token of the document."""

    num_documents: int
    mean_length: float
    document_tokens: dict[str, int]
    """Lengths at min, p5, p25, p50, p75, p95 and max. A percentile is the length of one document (the lower one)."""
    histogram: list[tuple[int, int, int]]
    """Rows (shortest, longest, documents) for lengths 1, 2, 3-4, 5-8 …, from the shortest document to the longest."""
    eos_share: float
    """Share of tokens that are end-of-text tokens."""
    num_eos_inside: int
    """End-of-text tokens that end no document, because the text itself contains them."""
    num_special_inside: dict[str, int]
    """Special tokens that the text itself spells, by name, where there are any. They include `num_eos_inside`."""
    num_repeated: int
    """Documents that equal an earlier document of the split."""
    most_copies: int
    """Number of copies of the most frequent document; 1 if none is repeated."""
    num_also_in: dict[str, int]
    """Documents of this split that also occur in another split, by the name of that split."""

    def to_dict(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        return dataclasses.asdict(self)


def inspect_split(
    split: Split,
    others: dict[str, Split] | None = None,
    progress: ReadProgress | None = None,
    special_tokens: Iterable[tuple[str, int]] = (),
) -> Inspection:
    """Read `split`, and `others` to count the documents that they share with it. Raises ShardError.

    `special_tokens` are the names and ids of the tokenizer's special tokens, which are counted by name.
    """
    lengths = np.diff(split.document_ends, prepend=np.uint64(0))
    lengths.sort()
    quantiles, histogram = _quantiles(lengths), _histogram(lengths)
    del lengths
    names = dict(special_tokens)
    hashes, counts = _document_hashes(split, progress or (lambda _: None), {split.eos_id, *names.values()})
    num_eos = counts[split.eos_id]
    counts[split.eos_id] -= len(hashes)
    hashes.sort()
    repeats = hashes[1:] == hashes[:-1]
    return Inspection(
        num_documents=len(hashes),
        mean_length=split.num_tokens / len(hashes),
        document_tokens=quantiles,
        histogram=histogram,
        eos_share=num_eos / split.num_tokens,
        num_eos_inside=num_eos - len(hashes),
        num_special_inside={name: counts[id_] for name, id_ in names.items() if counts[id_]},
        num_repeated=int(np.count_nonzero(repeats)),
        most_copies=1 + _longest_run(repeats),
        num_also_in={name: _num_in(hashes, other) for name, other in (others or {}).items()},
    )


def window_starts(split: Split, window: int, count: int) -> list[int]:
    """Return the first positions of up to `count` windows of `window` tokens, evenly spread over the split."""
    num_windows = max(1, (split.num_tokens - 1) // window)
    places = np.linspace(0, num_windows - 1, min(count, num_windows))
    return [int(place) * window for place in places]


def _document_hashes(
    split: Split, progress: ReadProgress, counted: Iterable[int] = ()
) -> tuple[NDArray[np.uint64], dict[int, int]]:
    """Return a hash per document, uint64 `(num_documents,)`, and how often each of the `counted` ids occurs."""
    hashes = np.empty(split.num_documents, dtype=np.uint64)
    wanted = np.array(sorted(counted), dtype=np.uint32)
    counts = np.zeros(len(wanted), dtype=np.int64)
    digest, number, ends = _new_hash(), 0, split.document_ends
    for start in range(0, split.num_tokens, PIECE_TOKENS):
        piece = split.tokens(start, min(start + PIECE_TOKENS, split.num_tokens))
        found = piece[np.isin(piece, wanted)]
        counts += np.bincount(np.searchsorted(wanted, found), minlength=len(wanted))
        stop = int(np.searchsorted(ends, start + len(piece), side="right"))
        begin, view = 0, piece.data
        for end in (ends[number:stop] - np.uint64(start)).tolist():
            digest.update(view[begin:end])
            hashes[number] = int.from_bytes(digest.digest(), "little")
            digest, number, begin = _new_hash(), number + 1, end
        digest.update(view[begin:])
        progress(start + len(piece))
    return hashes, dict(zip(wanted.tolist(), counts.tolist(), strict=True))


def _num_in(hashes: NDArray[np.uint64], other: Split) -> int:
    theirs, _ = _document_hashes(other, lambda _: None)
    theirs.sort()
    places = np.searchsorted(theirs, hashes)
    np.minimum(places, len(theirs) - 1, out=places)
    return int(np.count_nonzero(theirs[places] == hashes))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Return the length of the longest run of true flags."""
    padded = np.concatenate(([False], flags, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _new_hash() -> Any:
    return hashlib.blake2b(digest_size=HASH_BYTES)


def _quantiles(lengths: NDArray[np.uint64]) -> dict[str, int]:
    """Return the quantiles of sorted lengths."""
    places = {f"p{share}": (len(lengths) - 1) * share // 100 for share in _SHARES}
    return {name: int(lengths[at]) for name, at in {"min": 0, **places, "max": -1}.items()}


def _histogram(lengths: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
    """Return the histogram of sorted lengths."""
    rows: list[tuple[int, int, int]] = []
    shortest, longest, below = 1, 1, 0
    while below < len(lengths):
        until = int(np.searchsorted(lengths, longest, side="right"))
        if rows or until > below:
            rows.append((shortest, longest, until - below))
        shortest, longest, below = longest + 1, 2 * longest, until
    return rows
