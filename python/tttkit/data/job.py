"""A preparation job: its sources and rules, which it validates, and a survey of the sources before they are read."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tttkit.config.limits import MOST_THREADS, MOST_TOKENS
from tttkit.data.account import shown
from tttkit.data.file_sources import FORMS
from tttkit.data.formats import TEXT
from tttkit.data.reader import Reader
from tttkit.data.single_text import Part, cut_text
from tttkit.data.sources import DataSet, Source
from tttkit.data.survey import Survey, survey
from tttkit.data.tokenizer import LoadedTokenizer, TokenizerOptions
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


_LATER_RULES = ("format", "bad_records")
"""Rules that a request names only if they differ from the default, so that requests of version 0.1.0 stay equal."""
PrepareProgress = Callable[[Prepared], None]
"""Called about every 16 MB of text, and once at the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """Sources, rules and output of one preparation."""

    sources: Sequence[Source]
    validation: Sequence[Source] | None
    out: Path
    tokenizer: str
    tokenizer_options: TokenizerOptions = dataclasses.field(default_factory=TokenizerOptions)
    validation_fraction: float
    reader: Reader
    num_threads: int
    shard_tokens: int
    progress: PrepareProgress | None

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must be at least 0 and below 1, got {self.validation_fraction}")
        for name, value, most in (
            ("threads", self.num_threads, MOST_THREADS),
            ("shard_tokens", self.shard_tokens, MOST_TOKENS),
        ):
            if not 1 <= value <= most:
                raise UsageError(f"{name} must be in 1 … {most:,}, got {value}")
        if not self.sources:
            raise UsageError("no source given", hint=f"expected {FORMS}")
        streams = [source.stream for source in self._all_sources if source.stream is not None]
        for identity, count in collections.Counter(stream.identity for stream in streams).items():
            if count > 1:
                name = next(stream.name for stream in streams if stream.identity == identity)
                raise UsageError(f"{name} is named {count} times, but it can be read only once")

    @property
    def _all_sources(self) -> list[Source]:
        return [*self.sources, *(self.validation or [])]

    def check(self) -> None:
        """Refuse sources that hold no text, before anything is written. Raises UsageError, DataError."""
        rules = self.reader.rules
        for source in self._all_sources:
            source.check(self.reader)
        holds_records = set(self.reader.account.num_files) - {TEXT}
        if rules.text_field is not None and not holds_records:
            raise UsageError(
                f"--text-field {rules.text_field} has no meaning: the sources hold plain text, not records",
                hint="leave it out, or say what they hold with --format jsonl, json or parquet",
            )
        if self.tokenizer.startswith("bpe:"):
            # Training the tokenizer reads the training text before it is encoded.
            for source in self.sources:
                if source.stream is not None:
                    source.stream.keep()

    @functools.cached_property
    def parts(self) -> tuple[Part, Part] | None:
        """The parts for training and validation if the sources are one text that is one document; otherwise None.

        Called after `check`. Raises DataError for a text that is too short.
        """
        whole = self.reader.rules.keeps_texts_whole and not any(isinstance(source, DataSet) for source in self.sources)
        if self.validation is not None or not self.validation_fraction or not whole:
            return None
        items = (source.items(self.reader.rules) or iter([]) for source in self.sources)
        first = list(itertools.islice(itertools.chain.from_iterable(items), 2))
        if len(first) != 1 or first[0].content != TEXT:
            return None
        for source in self.sources:
            if source.stream is not None:
                source.stream.keep()
        return cut_text(first[0], self.validation_fraction)

    @property
    def split_sources(self) -> tuple[Sequence[Source], Sequence[Source] | None]:
        """The sources of training and of validation; None for validation if it is a fraction of the documents."""
        return ([self.parts[0]], [self.parts[1]]) if self.parts else (self.sources, self.validation)

    @property
    def split_names(self) -> tuple[str, ...]:
        """The names of the splits, in the order of `split_sources`."""
        has_validation = self.validation is not None or self.validation_fraction > 0
        return ("train", "validation") if has_validation else ("train",)

    @functools.cached_property
    def survey(self) -> Survey:
        """Signature and size of the sources, taken before they are read."""
        return survey(self._all_sources, self.reader.rules)

    def request(self) -> dict[str, Any]:
        """Return the sources and rules that the data set is made from. Data sets with equal requests are the same."""
        rules = self.reader.rules
        defaults = type(rules)()
        later = {name: getattr(rules, name) for name in _LATER_RULES if getattr(rules, name) != getattr(defaults, name)}
        return {
            "sources": [shown(source.text) for source in self.sources],
            "validation": None if self.validation is None else [shown(source.text) for source in self.validation],
            "tokenizer": shown(self.tokenizer),
            **self.tokenizer_options.request(),
            "validation_fraction": self.validation_fraction if self.validation is None else None,
            "documents": rules.documents,
            "document_pattern": rules.document_pattern,
            "text_field": rules.field,
            **later,
            "bad_utf8": self.reader.decoder.bad_utf8,
            "shard_tokens": self.shard_tokens,
            "signature": self.survey.signature,
        }

    def digest(self, loaded: LoadedTokenizer) -> str | None:
        """Return the SHA-256 that marks unfinished shards of this request; None with a stream, read only once."""
        request = self.request()
        if request["signature"] is None:
            return None
        return hashlib.sha256(json.dumps([request, loaded.sha256], sort_keys=True).encode()).hexdigest()
