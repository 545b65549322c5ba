"""A preparation job: its sources and rules, which it validates, and a survey of the sources before they are read."""

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
    """Progress of a preparation, summed over both splits."""

    num_bytes: int
    """UTF-8 bytes of text."""
    total_bytes: int | None
    """Bytes of all text; None if the size is unknown before the text is read."""
    num_documents: int
    num_tokens: int


PrepareProgress = Callable[[Prepared], None]
"""Called about every 16 MB of text, and once at the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """Sources, rules and output of one preparation."""

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
                f"`{self.tokenizer}` reads its source twice, but stdin can be read only once",
                hint="name a file, or another tokenizer",
            )

    @functools.cached_property
    def survey(self) -> Survey:
        """Signature and size of the sources, taken before they are read."""
        return survey([*self.sources, *(self.validation or [])])

    def request(self) -> dict[str, Any]:
        """Return the sources and rules that the data set is made from. Data sets with equal requests are the same."""
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
        """Return the SHA-256 that marks unfinished shards of this request; None with stdin, which is read only once."""
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
        """Return the texts of the train split, which a tokenizer is trained on."""
        return (text for split, text in self.texts() if split == "train")

    def _documents(self, sources: Sequence[Source], split: str) -> Iterator[str]:
        for source in sources:
            yield from source.documents(self.reading, self.decoder, split)


def is_validation(index: int, fraction: float) -> bool:
    """Whether document `index` (from 0) is held out: floor((d+1) f + 1/2) > floor(d f + 1/2)."""
    return math.floor((index + 1) * fraction + 0.5) > math.floor(index * fraction + 0.5)
