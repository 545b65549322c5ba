"""Examples of text tasks as ids: real text or a list of words, the statements inside, and the cue; then the answer.

Each piece of text is encoded by itself. All prompts of a length have the same number of tokens; with the longest answer
they have that length.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tttkit.data.text_tasks.questions import FEWEST_WORDS, PARTS, Question, question_of
from tttkit.errors import DataError

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Returns the ids of each text."""
Ids = NDArray[np.int64]
_SHRINK = 0.95


@dataclasses.dataclass(frozen=True)
class TextExamples:
    """N examples of one part and length."""

    prompts: Ids
    """(N, P) ids."""
    answers: list[list[int]]
    """The ids after the cue."""
    references: list[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """A question in ids."""

    statements: list[list[int]]
    cue: list[int]
    answer: list[int]

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.statements)) + len(self.cue)


def shortest_length(part: str, num_examples: int, seed: int, encode: Encode) -> int:
    """Return the fewest tokens of an example that all questions fit into."""
    encoded = _encoded([question_of(part, seed, index) for index in range(num_examples)], encode)
    return max(each.num_tokens for each in encoded) + max(len(each.answer) for each in encoded)


def make_text_examples(
    part: str, haystacks: Ids, length: int, seed: int, encode: Encode, depth: float | None = None
) -> TextExamples:
    """Return an example of `length` tokens for each row of `haystacks` (N, at least L), real text.

    Every statement stands at the share `depth` of the text, or at a random one. Raises ValueError if a question does
    not fit.
    """
    questions = [question_of(part, seed, index) for index in range(len(haystacks))]
    encoded = _encoded(questions, encode)
    longest = max(len(each.answer) for each in encoded)  # longer lists have the same answers
    if PARTS[part].is_list:
        encoded = [_fitting_list(part, seed, index, length - longest, encode) for index in range(len(questions))]
        depth = 1.0
    random = np.random.default_rng([seed, *part.encode()])
    places = np.sort(random.random((len(encoded), len(encoded[0].statements))), axis=1)
    shares = places if depth is None else np.full_like(places, depth)
    prompts = [_prompt(*each, length - longest) for each in zip(encoded, haystacks, shares, strict=True)]
    return TextExamples(
        np.array(prompts, dtype=np.int64),
        [each.answer for each in encoded],
        [question.references for question in questions],
    )


def full_texts(part: str, haystacks: Ids, length: int, seed: int, encode: Encode) -> list[list[int]]:
    """Return prompt and answer, `length` ids together, for each row of `haystacks` (N, at least L).

    Statements stand at random places. Raises ValueError if a question does not fit.
    """
    encoded = _encoded([question_of(part, seed, index) for index in range(len(haystacks))], encode)
    places = np.random.default_rng([seed, *part.encode()]).random((len(haystacks), len(encoded[0].statements)))
    places = np.sort(places, axis=1)
    return [
        [*_prompt(each, haystack, shares, length - len(each.answer)), *each.answer]
        for each, haystack, shares in zip(encoded, haystacks, places, strict=True)
    ]


def _prompt(encoded: _Encoded, haystack: Ids, shares: NDArray[np.float64], size: int) -> list[int]:
    room = size - encoded.num_tokens
    if room < 0:
        raise ValueError(f"the question has {encoded.num_tokens} tokens, but the prompt has room for {size}")
    ids, start = [], 0
    for share, statement in zip(shares.tolist(), encoded.statements, strict=True):
        place = round(share * room)
        ids += [*haystack[start:place].tolist(), *statement]
        start = place
    return [*ids, *haystack[start:room].tolist(), *encoded.cue]


def _fitting_list(part: str, seed: int, index: int, size: int, encode: Encode) -> _Encoded:
    """Return the question with as many words as have at most `size` tokens with the cue."""
    num_words = max(size, FEWEST_WORDS)  # a word has at least one token
    while True:
        (encoded,) = _encoded([question_of(part, seed, index, num_words)], encode)
        if num_words == FEWEST_WORDS or encoded.num_tokens <= size:
            return encoded
        shrink = min(_SHRINK, size / encoded.num_tokens)
        num_words = max(FEWEST_WORDS, int(num_words * shrink))


def _encoded(questions: Sequence[Question], encode: Encode) -> list[_Encoded]:
    """Encode the pieces; the answer is what the cue with the answer has beyond the ids of the cue alone."""
    pieces = [[*each.statements, each.cue, each.cue + each.answer] for each in questions]
    ids = iter(encode([piece for row in pieces for piece in row]))
    encoded = []
    for row in pieces:
        *statements, cue, both = itertools.islice(ids, len(row))
        same = next((i for i, (a, b) in enumerate(zip(cue, both, strict=False)) if a != b), min(len(cue), len(both)))
        encoded.append(_Encoded(statements, both[:same], both[same:]))
    return encoded


def check_answers(examples: TextExamples, decode: Callable[[Sequence[int]], str]) -> None:
    """Refuse a tokenizer that cannot write the answers. Raises DataError."""
    for ids, references in zip(examples.answers, examples.references, strict=True):
        missing = next((reference for reference in references if reference not in decode(ids)), None)
        if missing is not None:
            raise DataError(
                f"the tokenizer of the data cannot write `{missing}`, which the task asks for",
                hint="name data that is made of real text: --data DATA",
            )
