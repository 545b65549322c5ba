"""What every synthetic task returns: texts of equal length, and how far back each answer was given."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tttkit.data.synthetic.vocabulary import FIRST_VALUE, NUM_VALUES

Ids = NDArray[np.int64]


class Examples(NamedTuple):
    """N texts of L tokens. The last token of each is the end of text."""

    tokens: Ids
    """(N, L) ids."""
    distances: Ids
    """(N, L): tokens from an answer back to the place where it was given; 0 where the token is no answer."""


class Task(Protocol):
    """A synthetic task."""

    def __call__(self, random: np.random.Generator, num_examples: int, length: int, size: int) -> Examples:
        """Return examples of `length` tokens with `size` items to remember. Raises ValueError if they do not fit."""


def random_values(random: np.random.Generator, num_examples: int, count: int) -> Ids:
    """Return (N, count) random values."""
    return random.integers(FIRST_VALUE, FIRST_VALUE + NUM_VALUES, (num_examples, count))


def distinct(random: np.random.Generator, num_examples: int, count: int, first: int, choices: int) -> Ids:
    """Return (N, count) ids from `first … first + choices - 1`, all different within a row, in random order."""
    return first + random.random((num_examples, choices)).argsort(axis=1)[:, :count]


def check_room(task: str, length: int, needed: int) -> None:
    """Raise ValueError if examples of `length` tokens are shorter than needed."""
    if length < needed:
        raise ValueError(f"{task} needs at least {needed} tokens, got {length}")
