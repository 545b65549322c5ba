"""What a preparation is asked for: its sources and rules, checked, and what is known of them before they are read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tttkit.data.sources import Reading, Survey, iter_documents, survey
from tttkit.data.text import Decoder
from tttkit.data.tokenizer import LoadedTokenizer
from tttkit.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """How far a preparation has come, both splits together."""

    num_bytes: int
    """UTF-8 bytes of text."""
    total_bytes: int | None
    """Bytes in all, where that is known beforehand."""
    num_documents: int
    num_tokens: int


Progress = Callable[[Prepared], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One preparation."""

    sources: list[str]
    validation: list[str] | None
    out: Path
    tokenizer: str
    validation_fraction: float
    reading: Reading
    decoder: Decoder
    num_threads: int
    shard_tokens: int
    progress: Progress | None

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must be at least 0 and below 1, got {self.validation_fraction}")
        if not self.sources:
            raise UsageError("no source given", hint="a file, directory, glob, -, hf:NAME[:CONFIG] or stdlib")
        if self.tokenizer.startswith("bpe:") and "-" in self.sources:
            raise UsageError(
                f"`{self.tokenizer}` reads its source twice, and stdin can be read once", hint="use a file"
            )

    @functools.cached_property
    def survey(self) -> Survey:
        """What is known of the sources before they are read."""
        return survey([*self.sources, *(self.validation or [])])

    def request(self) -> dict[str, Any]:
        """What the data set is made from, to tell whether one that is there is this one."""
        reading = dataclasses.asdict(self.reading)
        return {
            "sources": self.sources,
            "validation": self.validation,
            "tokenizer": self.tokenizer,
            "validation_fraction": self.validation_fraction if self.validation is None else None,
            **reading,
            "bad_utf8": self.decoder.bad_utf8,
            "shard_tokens": self.shard_tokens,
            "signature": self.survey.signature,
        }

    def digest(self, loaded: LoadedTokenizer) -> str | None:
        """What tells whether unfinished shards are of this request; None for stdin, which cannot be read twice."""
        request = self.request()
        if request["signature"] is None:
            return None
        return hashlib.sha256(json.dumps([request, loaded.sha256], sort_keys=True).encode()).hexdigest()

    def texts(self) -> Iterator[tuple[str, str]]:
        """(split, text) of every document in order."""
        documents = iter_documents(self.sources, self.reading, self.decoder)
        fraction = 0.0 if self.validation is not None else self.validation_fraction
        for index, text in enumerate(documents):
            yield ("validation" if is_validation(index, fraction) else "train"), text
        for text in iter_documents(self.validation or [], self.reading, self.decoder, split="validation"):
            yield "validation", text

    def training_texts(self) -> Iterator[str]:
        """Text that a tokenizer is trained on: none of the validation split."""
        return (text for split, text in self.texts() if split == "train")


def is_validation(index: int, fraction: float) -> bool:
    """Whether document `index` (from 0) is held out: floor((d+1) f + 1/2) > floor(d f + 1/2)."""
    return math.floor((index + 1) * fraction + 0.5) > math.floor(index * fraction + 0.5)
