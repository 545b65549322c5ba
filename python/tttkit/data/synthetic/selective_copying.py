"""Selective copying (Gu and Dao, "Mamba", arXiv 2312.00752).

Values stand at random places among blanks; after the question mark they follow in order.
"""

from __future__ import annotations

import numpy as np

from tttkit.data.synthetic.examples import Examples, check_room, distinct, random_values
from tttkit.data.synthetic.vocabulary import ASK, BLANK, END


def selective_copying(random: np.random.Generator, num_examples: int, length: int, size: int) -> Examples:
    """Return examples with `size` values; a text needs at least 2 x size + 2 tokens. Raises ValueError."""
    check_room("selective-copy", length, smallest_selective(size))
    ask = length - 2 - size
    places = np.sort(distinct(random, num_examples, size, 0, ask), axis=1)
    values = random_values(random, num_examples, size)
    tokens = np.full((num_examples, length), BLANK, dtype=np.int64)
    np.put_along_axis(tokens, places, values, axis=1)
    tokens[:, ask], tokens[:, ask + 1 : -1], tokens[:, -1] = ASK, values, END
    distances = np.zeros_like(tokens)
    distances[:, ask + 1 : -1] = ask + 1 + np.arange(size) - places
    return Examples(tokens, distances)


def smallest_selective(size: int) -> int:
    """Return the fewest tokens of a text with `size` values."""
    return 2 * size + 2
