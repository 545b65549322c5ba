"""Copying: random words, and after a separator the same words again.

`copy` is the task of Jelassi et al. 2024, arXiv 2402.01032. In `selective_copy` (Gu and Dao 2023, arXiv 2312.00752,
section 4.1) the words stand at random places among filler.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tttkit.data.tasks.examples import FILLER, FIRST_WORD, SEPARATOR, VOCABULARY, Examples, stack

_MOST_SELECTED = 16


def copy(num_examples: int, num_words: int, random: np.random.Generator) -> Examples:
    """Make examples that copy half to all of the words that fit; filler comes first, and a separator before each copy.

    The words of an example are all different, unless there are more than the vocabulary has.
    """
    most = (num_words - 2) // 2
    rows = []
    for _ in range(num_examples):
        size = int(random.integers(most // 2 + 1, most + 1))
        copied = _draw(size, random)
        lead = num_words - 2 * size - 2
        words = np.concatenate([np.full(lead, FILLER), [SEPARATOR], copied, [SEPARATOR], copied])
        distance = np.zeros(num_words, dtype=np.int64)
        distance[lead + size + 2 :] = size + 1
        rows.append((words, distance, size))
    return stack(rows)


def selective_copy(num_examples: int, num_words: int, random: np.random.Generator) -> Examples:
    """Make examples with up to 16 words among filler, which come again in order after a separator."""
    size = min(_MOST_SELECTED, (num_words - 1) // 3)
    room = num_words - size - 1
    rows = []
    for _ in range(num_examples):
        copied = _draw(size, random)
        places = np.sort(random.choice(room, size, replace=False))
        words = np.concatenate([np.full(room, FILLER), [SEPARATOR], copied])
        words[places] = copied
        distance = np.zeros(num_words, dtype=np.int64)
        distance[room + 1 :] = np.arange(room + 1, num_words) - places
        rows.append((words, distance, size))
    return stack(rows)


def _draw(size: int, random: np.random.Generator) -> NDArray[np.int64]:
    repeated = size > VOCABULARY - FIRST_WORD
    return random.choice(np.arange(FIRST_WORD, VOCABULARY), size, replace=repeated)
