"""The questions: what is hidden in a text, what is asked about it, and which answers are right.

`passkey` follows Mohtashami and Jaggi (arXiv 2305.16300); the others are the part of RULER (Hsieh et al., arXiv
2404.06654) that needs no download, in shorter words: needles with one and with several keys, variable tracking, common
words and frequent words. Unlike in RULER the order of several references is asked for, so that their NLL is defined.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tttkit.data.text_tasks.words import WORDS
from tttkit.errors import UsageError

NUM_KEYS = 4
"""Keys of the needle with several keys."""
NUM_HOPS = 4
"""Assignments from variable to variable after the first one."""
NUM_COMMON = 4
"""Words of the list that are common."""
NUM_FREQUENT = 3
"""Most frequent words that are asked for."""
_LETTERS = np.array(list(string.ascii_uppercase))


class Question(NamedTuple):
    """What one example hides and asks."""

    statements: tuple[str, ...]
    """Stand in the text in this order."""
    cue: str
    """Ends the prompt."""
    references: tuple[str, ...]
    """The right answers, in the order that the cue asks for."""

    @property
    def answer(self) -> str:
        """The text after the cue."""
        return f" {', '.join(self.references)}"


class Part(NamedTuple):
    """A kind of question."""

    ask: Callable[[np.random.Generator, int], Question]
    """Returns a question, given the number of words that a list of words has."""
    is_list: bool = False
    """Whether the text is a list of words, not real text."""


def _passkey(random: np.random.Generator, num_words: int) -> Question:  # noqa: ARG001
    key = _number(random, 5)
    return Question((f"\nThe pass key is {key}. Remember it.\n",), "\nThe pass key is", (key,))


def _needle(random: np.random.Generator, num_words: int) -> Question:  # noqa: ARG001
    return _needles(random, 1)


def _multi_key(random: np.random.Generator, num_words: int) -> Question:  # noqa: ARG001
    return _needles(random, NUM_KEYS)


def _needles(random: np.random.Generator, count: int) -> Question:
    keys = random.choice(WORDS, count, replace=False).tolist()
    values = [_number(random, 7) for _ in keys]
    statements = tuple(f"\nThe number of {key} is {value}.\n" for key, value in zip(keys, values, strict=True))
    asked = int(random.integers(count))
    return Question(statements, f"\nThe number of {keys[asked]} is", (values[asked],))


def _variable_tracking(random: np.random.Generator, num_words: int) -> Question:  # noqa: ARG001
    # different first letters, so that all names differ
    firsts = random.permutation(_LETTERS)[: NUM_HOPS + 1].tolist()
    names = ["".join([first, *random.choice(_LETTERS, 4)]) for first in firsts]
    value = _number(random, 5)
    sources = [value, *(f"VAR {name}" for name in names)]
    statements = tuple(f"\nVAR {name} = {source}\n" for name, source in zip(names, sources, strict=False))
    return Question(statements, f"\nThe variables that are {value}, in order of assignment:", tuple(names))


def _common_words(random: np.random.Generator, num_words: int) -> Question:
    """Half of the list is four words, each equally often; the rest of WORDS shares the other half."""
    words = random.permutation(WORDS).tolist()
    common, others = words[:NUM_COMMON], words[NUM_COMMON:]
    each = num_words // (2 * NUM_COMMON)
    rest = [others[index % len(others)] for index in range(num_words - each * NUM_COMMON)]
    cue = f"\nThe {NUM_COMMON} most common words, in order of the alphabet:"
    return Question((_list(random, common * each + rest),), cue, tuple(sorted(common)))


def _frequent_words(random: np.random.Generator, num_words: int) -> Question:
    """The word of rank k stands in the list as often as a zeta distribution with the exponent 2 says."""
    words = random.permutation(WORDS).tolist()
    shares = np.arange(1, len(words) + 1, dtype=np.float64) ** -2
    counts = np.floor(num_words * shares / shares.sum()).astype(int)
    counts[NUM_FREQUENT:] = np.minimum(counts[NUM_FREQUENT:], counts[NUM_FREQUENT - 1] - 1)  # no tie
    counts[0] += num_words - counts.sum()
    listed = [word for word, count in zip(words, counts.tolist(), strict=True) for _ in range(count)]
    cue = f"\nThe {NUM_FREQUENT} most frequent words, the most frequent first:"
    return Question((_list(random, listed),), cue, tuple(words[:NUM_FREQUENT]))


def _list(random: np.random.Generator, words: list[str]) -> str:
    return f"\n{' '.join(random.permutation(words).tolist())}"


def _number(random: np.random.Generator, digits: int) -> str:
    return str(random.integers(10 ** (digits - 1), 10**digits))


PARTS = {
    "passkey": Part(_passkey),
    "needle": Part(_needle),
    "multi-key": Part(_multi_key),
    "variable-tracking": Part(_variable_tracking),
    "common-words": Part(_common_words, is_list=True),
    "frequent-words": Part(_frequent_words, is_list=True),
}
PASSKEY, RULER = "passkey", "ruler"
TASK_PARTS = {PASSKEY: (PASSKEY,), RULER: tuple(name for name in PARTS if name != PASSKEY)}
"""The tasks, and the kinds of questions of each."""
FEWEST_WORDS = 24
"""Words that a list needs, so that the words asked for stand in it more often than all others."""


def question_of(part: str, seed: int, index: int, num_words: int = FEWEST_WORDS) -> Question:
    """Return question `index` of a part, which follows from the arguments alone. Raises UsageError for another part."""
    if part not in PARTS:
        raise UsageError(f"unknown kind of question `{part}`", hint=f"known: {', '.join(PARTS)}")
    return PARTS[part].ask(np.random.default_rng([seed, index, *part.encode()]), num_words)
