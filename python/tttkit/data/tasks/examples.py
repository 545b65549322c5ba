"""Examples of a synthetic task, and the words that all tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 1024
"""Number of words, with the end-of-text token (0)."""
FILLER, SEPARATOR = 1, 2
"""The word that says nothing, and the word that announces an answer."""
FIRST_WORD = 3
"""The smallest of the other words."""
SHORTEST = 16
"""Fewest tokens of an example."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of one task and one length. N examples, L words."""

    words: NDArray[np.int64]
    """(N, L)."""
    distance: NDArray[np.int64]
    """(N, L): for a word that only memory can predict, how many words ago it was read; 0 for all other words."""
    size: NDArray[np.int64]
    """(N,): how many things an example asks the model to remember."""

    @property
    def is_answer(self) -> NDArray[np.bool_]:
        """(N, L): whether a word can be predicted from memory alone, so that it is scored."""
        return self.distance > 0


Maker = Callable[[int, int, np.random.Generator], Examples]
"""Makes N examples of L words, at least `SHORTEST` - 1, from a generator."""


def stack(rows: list[tuple[NDArray[np.int64], NDArray[np.int64], int]]) -> Examples:
    """Join examples, each with its words, distances and size."""
    words, distances, sizes = zip(*rows, strict=True)
    return Examples(np.stack(words), np.stack(distances), np.asarray(sizes))


def sizes_within(num_words: int, words_each: int, smallest: int = 4, largest: int = 64) -> list[int]:
    """Return the powers of two from `smallest` to `largest` that fit if each thing takes `words_each` words."""
    sizes = [smallest << step for step in range(16) if smallest << step <= largest]
    return [size for size in sizes if size * words_each <= num_words] or [max(1, num_words // words_each)]
