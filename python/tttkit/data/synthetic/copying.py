"""Copying (Jelassi et al., "Repeat After Me", arXiv 2402.01032): random values, a question mark, and all of them again.

The text is filled with blanks at its start if the length is odd; the number of values follows from the length.
"""

from __future__ import annotations

import numpy as np

from tttkit.data.synthetic.examples import Examples, check_room, random_values
from tttkit.data.synthetic.vocabulary import ASK, BLANK, END


def copying(random: np.random.Generator, num_examples: int, length: int, size: int) -> Examples:  # noqa: ARG001
    """Return examples with (length - 2) // 2 values; `size` has no effect. Raises ValueError below 4 tokens."""
    check_room("copy", length, 4)
    count = (length - 2) // 2
    values = random_values(random, num_examples, count)
    tokens = np.full((num_examples, length), BLANK, dtype=np.int64)
    ask = length - 2 - count
    tokens[:, ask - count : ask], tokens[:, ask] = values, ASK
    tokens[:, ask + 1 : -1], tokens[:, -1] = values, END
    distances = np.zeros_like(tokens)
    distances[:, ask + 1 : -1] = count + 1
    return Examples(tokens, distances)
