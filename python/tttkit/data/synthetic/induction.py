"""Induction heads (Gu and Dao, "Mamba", arXiv 2312.00752): what followed this key when it stood in the text before?

The text is noise with one key and its value at a random place; it ends with the question mark, the key and the value.
Unlike in the original the key is a random one, not always the same.
"""

from __future__ import annotations

import numpy as np

from tttkit.data.synthetic.examples import Examples, check_room, random_values
from tttkit.data.synthetic.vocabulary import ASK, END, FIRST_KEY, FIRST_NOISE, NUM_KEYS, NUM_NOISE


def induction(random: np.random.Generator, num_examples: int, length: int, size: int) -> Examples:  # noqa: ARG001
    """Return examples with one question; `size` has no effect. Raises ValueError below 6 tokens."""
    check_room("induction", length, 6)
    tokens = random.integers(FIRST_NOISE, FIRST_NOISE + NUM_NOISE, (num_examples, length))
    places = random.integers(0, length - 5, (num_examples, 1))
    keys = random.integers(FIRST_KEY, FIRST_KEY + NUM_KEYS, (num_examples, 1))
    values = random_values(random, num_examples, 1)
    np.put_along_axis(tokens, places, keys, axis=1)
    np.put_along_axis(tokens, places + 1, values, axis=1)
    tokens[:, -4], tokens[:, -3:-2], tokens[:, -2:-1], tokens[:, -1] = ASK, keys, values, END
    distances = np.zeros_like(tokens)
    distances[:, -2:-1] = length - 2 - (places + 1)
    return Examples(tokens, distances)
