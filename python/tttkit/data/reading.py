"""Cut text files, record files and streams into documents, in Python.

Rust cuts plain text itself (`ingest.py`). This module handles every other case: jsonl and parquet, a document pattern,
invalid UTF-8 that is replaced or skipped, and the training of a tokenizer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from tttkit.data.documents import RULES, compile_pattern, cut_lines
from tttkit.data.file_tree import inner_suffix
from tttkit.data.records import jsonl_texts, parquet_texts
from tttkit.data.text import Utf8Decoder, damage_named, open_binary, read_file, read_lines
from tttkit.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How sources are cut into documents."""

    documents: str = "file"
    """Rule that cuts text into documents: file, line, blank-line or wikitext."""
    document_pattern: str | None = None
    """A document starts at each line that matches this regular expression. Overrides the rule."""
    text_field: str = "text"
    """Field that holds the text of a jsonl, parquet or data set record."""

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown rule or an invalid pattern before anything is read."""
        if self.documents not in RULES:
            raise UsageError(f"unknown document rule `{self.documents}`", hint=f"rules: {', '.join(RULES)}")
        if self.document_pattern is not None:
            compile_pattern(self.document_pattern)

    @property
    def keeps_texts_whole(self) -> bool:
        """Whether each file or record is one document."""
        return self.documents == "file" and self.document_pattern is None


def file_documents(path: Path, reading: Reading, decoder: Utf8Decoder) -> Iterator[str]:
    """Yield the documents of one file; its suffix says how to read it. Raises UsageError, DataError."""
    suffix = inner_suffix(path)
    if suffix == ".parquet":
        with open_binary(path) as file, damage_named(path):
            yield from parquet_texts(file, str(path), reading.text_field)
    elif suffix == ".jsonl":
        with open_binary(path) as file, damage_named(path):
            lines = read_lines(file, str(path), decoder)
            yield from jsonl_texts(lines, str(path), reading.text_field, decoder)
    elif reading.keeps_texts_whole:
        text = read_file(path, decoder)
        if text:
            yield text
    else:
        with open_binary(path) as file, damage_named(path):
            yield from stream_documents(file, str(path), reading, decoder)


def stream_documents(file: IO[bytes], name: str, reading: Reading, decoder: Utf8Decoder) -> Iterator[str]:
    """Return the documents of an open file that error messages call `name`. Raises DataError for invalid UTF-8."""
    lines = (line for _, line in read_lines(file, name, decoder))
    return (text for text in cut_lines(lines, reading.documents, reading.document_pattern) if text)


def record_documents(texts: Iterator[str], reading: Reading) -> Iterator[str]:
    """Return the texts of a data set's records as documents, or cut their lines if the rule is not `file`."""
    if reading.keeps_texts_whole:
        return texts
    return cut_lines(_with_line_ends(texts), reading.documents, reading.document_pattern)


def _with_line_ends(texts: Iterable[str]) -> Iterator[str]:
    return (text if text.endswith("\n") else f"{text}\n" for text in texts)
