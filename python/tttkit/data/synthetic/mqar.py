"""Multi-query associative recall (Arora et al., "Zoology", arXiv 2312.04927).

A text is n pairs of key and value, the question mark, and then each key once more, followed by its value. The places of
the questions follow a power law, p(g) ~ g^(0.01 - 1) for the slot g = 1, 2, … of two tokens; other slots hold noise.
Unlike in the original the value stands behind its question, as it does in text; no key is asked about twice.
"""

from __future__ import annotations

import numpy as np

from tttkit.data.synthetic.examples import Examples, Ids, check_room, distinct, random_values
from tttkit.data.synthetic.vocabulary import ASK, END, FIRST_KEY, FIRST_NOISE, NUM_KEYS, NUM_NOISE

POWER = 0.01


def mqar(random: np.random.Generator, num_examples: int, length: int, size: int) -> Examples:
    """Return examples with `size` pairs; a text needs at least 4 x size + 2 tokens. Raises ValueError."""
    check_room("mqar", length, smallest_mqar(size))
    keys = distinct(random, num_examples, size, FIRST_KEY, NUM_KEYS)
    values = random_values(random, num_examples, size)
    first = 2 * size + 1
    tokens = random.integers(FIRST_NOISE, FIRST_NOISE + NUM_NOISE, (num_examples, length))
    tokens[:, 0 : first - 1 : 2], tokens[:, 1:first:2] = keys, values
    tokens[:, first - 1], tokens[:, -1] = ASK, END
    places = first + 2 * _slots(random, num_examples, (length - 1 - first) // 2, size)  # (N, n) of the questions
    np.put_along_axis(tokens, places, keys, axis=1)
    np.put_along_axis(tokens, places + 1, values, axis=1)
    distances = np.zeros_like(tokens)
    np.put_along_axis(distances, places + 1, places - 2 * np.arange(size), axis=1)
    return Examples(tokens, distances)


def smallest_mqar(size: int) -> int:
    """Return the fewest tokens of a text with `size` pairs."""
    return 4 * size + 2


def _slots(random: np.random.Generator, num_examples: int, num_slots: int, size: int) -> Ids:
    """Return (N, size) different slots, drawn one after the other by the power law (by the Gumbel trick)."""
    weights = (POWER - 1) * np.log(np.arange(1, num_slots + 1))
    return np.argsort(-(weights + random.gumbel(size=(num_examples, num_slots))), axis=1)[:, :size]
