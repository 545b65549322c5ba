"""Train the byte-level BPE of `bpe:N`: Rust counts the words of text of any size and learns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from tttkit._rust import Training
from tttkit.data.patterns import DEFAULT, read_pattern
from tttkit.errors import UsageError

MIN_VOCAB, MAX_VOCAB = 257, 1 << 20
"""Smallest vocabulary of `bpe:N` (256 bytes and the end-of-text token) and largest."""

CountWords = Callable[[list[str]], Training]
"""Takes the expressions that cut text into words; returns a training that has counted the words of its text."""


def train_bpe(spec: str, count_words: CountWords | None, *, pattern: str | None, end_of_text: str) -> str:
    """Return the tokenizer.json of `bpe:N`. Raises UsageError for a wrong N or pattern, DataError for unusable text.

    The words of the text are counted exactly until different words take 8 MiB; from there on the rarest are forgotten,
    so memory does not grow with the text. A word of more than 256 bytes (DNA, base64) counts as words of 256.
    """
    size = spec.removeprefix("bpe:")
    if not (size.isascii() and size.isdecimal() and MIN_VOCAB <= int(size[:19]) <= MAX_VOCAB):
        raise UsageError(f"expected bpe:N with N of at least {MIN_VOCAB} and at most {MAX_VOCAB:,}, got `{spec}`")
    if count_words is None:
        raise UsageError(f"`{spec}` needs a source to train on", hint="name a tokenizer.json")
    cut = read_pattern(pattern or DEFAULT)
    training = count_words(list(cut.expressions))
    return training.finish(int(size), end_of_text, json.dumps(cut.pre_tokenizer))


def words_of(texts: Iterable[str]) -> CountWords:
    """Return a function for `train_bpe` that counts the words of these texts."""

    def count_words(expressions: list[str]) -> Training:
        training = Training(expressions, documents="file", validation_fraction=0.0, num_threads=0)
        training.add_documents(list(texts))
        return training

    return count_words
