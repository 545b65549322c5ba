"""Induction: random words among which one word comes several times, followed by the same word each time.

Gu and Dao 2023, arXiv 2312.00752, section 4.1. There the word comes twice and only the last answer is trained; here it
comes four times, so that a text holds enough answers to learn from every token.
"""

from __future__ import annotations

import numpy as np

from tttkit.data.tasks.examples import FIRST_WORD, VOCABULARY, Examples, stack

_REPEATS = 4


def induction(num_examples: int, num_words: int, random: np.random.Generator) -> Examples:
    """Make examples in which the pair comes four times, the last time at the end."""
    rows = []
    for _ in range(num_examples):
        first, second = random.choice(np.arange(FIRST_WORD, VOCABULARY), 2, replace=False)
        words = random.integers(FIRST_WORD, VOCABULARY, num_words)
        # no other word of the text is the first of the pair
        words[words == first] = second
        slots = np.sort(random.choice(num_words // 2 - 1, _REPEATS - 1, replace=False))
        places = np.append(2 * slots, num_words - 2)
        words[places], words[places + 1] = first, second
        distance = np.zeros(num_words, dtype=np.int64)
        distance[places[1:] + 1] = np.diff(places)
        rows.append((words, distance, 1))
    return stack(rows)
