"""What a preparation is asked for: its sources and rules, checked, and what is known of them before they are read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tttkit.data.reading import Reading
from tttkit.data.sources import FORMS, Source, Survey, survey
from tttkit.data.text import Utf8Decoder
from tttkit.data.tokenizer import LoadedTokenizer
from tttkit.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """How much of the text is prepared, both splits together."""

    num_bytes: int
    """UTF-8 bytes of text."""
    total_bytes: int | None
    """Bytes of all text, if that is known before it is read."""
    num_documents: int
    num_tokens: int


PrepareProgress = Callable[[Prepared], None]
"""Called about every 16 MB of text, and once at the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One preparation."""

    sources: Sequence[Source]
    validation: Sequence[Source] | None
    out: Path
    tokenizer: str
    validation_fraction: float
    reading: Reading
    decoder: Utf8Decoder
    num_threads: int
    shard_tokens: int
    progress: PrepareProgress | None

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must be at least 0 and below 1, got {self.validation_fraction}")
        if not self.sources:
            raise UsageError("no source given", hint=f"expected {FORMS}")
        if self.tokenizer.startswith("bpe:") and not all(source.is_repeatable for source in self.sources):
            raise UsageError(
                f"`{self.tokenizer}` reads its source twice, and stdin can be read once",
                hint="name a file, or another tokenizer",
            )

    @functools.cached_property
    def survey(self) -> Survey:
        """What is known of the sources before they are read."""
        return survey([*self.sources, *(self.validation or [])])

    def request(self) -> dict[str, Any]:
        """Return what the data set is made from. An existing data set with an equal request is this one."""
        reading = dataclasses.asdict(self.reading)
        return {
            "sources": [source.text for source in self.sources],
            "validation": None if self.validation is None else [source.text for source in self.validation],
            "tokenizer": self.tokenizer,
            "validation_fraction": self.validation_fraction if self.validation is None else None,
            **reading,
            "bad_utf8": self.decoder.bad_utf8,
            "shard_tokens": self.shard_tokens,
            "signature": self.survey.signature,
        }

    def digest(self, loaded: LoadedTokenizer) -> str | None:
        """Return what tells whether unfinished shards belong to this request. None with stdin, which is read once."""
        request = self.request()
        if request["signature"] is None:
            return None
        return hashlib.sha256(json.dumps([request, loaded.sha256], sort_keys=True).encode()).hexdigest()

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield (split, text) of every document in order."""
        fraction = 0.0 if self.validation is not None else self.validation_fraction
        for index, text in enumerate(self._documents(self.sources, "train")):
            yield ("validation" if is_validation(index, fraction) else "train"), text
        for text in self._documents(self.validation or [], "validation"):
            yield "validation", text

    def training_texts(self) -> Iterator[str]:
        """Return the texts that a tokenizer is trained on: those of the train split."""
        return (text for split, text in self.texts() if split == "train")

    def _documents(self, sources: Sequence[Source], split: str) -> Iterator[str]:
        for source in sources:
            yield from source.documents(self.reading, self.decoder, split)


def is_validation(index: int, fraction: float) -> bool:
    """Whether document `index` (from 0) is held out: floor((d+1) f + 1/2) > floor(d f + 1/2)."""
    return math.floor((index + 1) * fraction + 0.5) > math.floor(index * fraction + 0.5)
