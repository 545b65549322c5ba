"""Multi-query associative recall: pairs of key and value, then each key again, after which its value is asked for.

Arora et al. 2023, arXiv 2312.04927 (zoology). The keys come again at gaps drawn from a power law, so most are close to
the pairs and some are far away. The rest of an example is filler. There, values are labels of the queries only; here
they follow the queries in the text, as a causal language model reads it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tttkit.data.tasks.examples import FILLER, FIRST_WORD, VOCABULARY, Examples, sizes_within, stack

POWER = 0.01
"""Exponent of the power law of the gaps: the probability of gap g is proportional to g^(POWER - 1)."""
_FIRST_VALUE = (FIRST_WORD + VOCABULARY) // 2
"""Keys are below it, values are not."""


def mqar(num_examples: int, num_words: int, random: np.random.Generator) -> Examples:
    """Make examples with 4, 8, 16, 32 or 64 pairs in turn, as far as they fit."""
    sizes = sizes_within(num_words, words_each=4)
    return stack([_example(sizes[index % len(sizes)], num_words, random) for index in range(num_examples)])


def _example(
    num_pairs: int, num_words: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    keys = random.choice(np.arange(FIRST_WORD, _FIRST_VALUE), num_pairs, replace=False)
    values = random.choice(np.arange(_FIRST_VALUE, VOCABULARY), num_pairs, replace=False)
    words = np.full(num_words, FILLER)
    distance = np.zeros(num_words, dtype=np.int64)
    words[: 2 * num_pairs : 2], words[1 : 2 * num_pairs : 2] = keys, values
    gaps = np.arange(1, (num_words - 2 * num_pairs) // 2 + 1)
    chance = gaps ** (POWER - 1.0)
    slots = random.choice(gaps - 1, num_pairs, replace=False, p=chance / chance.sum())
    for pair, slot in enumerate(slots):
        place = 2 * (num_pairs + slot)
        words[place], words[place + 1] = keys[pair], values[pair]
        distance[place + 1] = place - 2 * pair
    return words, distance, num_pairs
