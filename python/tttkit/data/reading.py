"""Cut the items of a source, files or streams, into documents, in Python.

Rust cuts plain text itself (`ingest.py`). This module handles every other case: records, a document pattern, invalid
UTF-8 that is replaced or skipped, and the training of a tokenizer.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from tttkit.data.documents import cut_lines
from tttkit.data.formats import AUTO, JSON, JSON_LINES, PARQUET, TEXT, format_of
from tttkit.data.opening import check_file, damage_named, open_binary
from tttkit.data.reader import Reader, Reading
from tttkit.data.records import json_texts, jsonl_texts, parquet_texts
from tttkit.data.signatures import is_json_record
from tttkit.data.text import BOM, read_lines
from tttkit.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Item:
    """One file or stream of a source."""

    name: str
    """Its name in messages."""
    content: str
    """One of `formats.CONTENTS`."""
    open: Callable[[], IO[bytes]] = dataclasses.field(compare=False)
    """Opens the content, decompressed."""
    path: Path | None = None
    """The file, if it is plain text that Rust can read itself."""


def file_item(path: Path, rules: Reading) -> Item:
    """Return a file as an item. Raises UsageError if it cannot be read, or holds records that its name conceals."""
    content = rules.format
    if content == AUTO:
        content = format_of(path).content or concealed_content(check_file(path, None), str(path), rules)
    is_plain = content == TEXT and format_of(path).compression is None
    return Item(str(path), content, lambda: open_binary(path), path if is_plain else None)


def concealed_content(head: bytes, name: str, rules: Reading) -> str:
    """Return what a content holds whose name does not tell. Raises UsageError for records unless a field is named."""
    if not is_json_record(head):
        return TEXT
    if rules.text_field is None:
        raise UsageError(
            f"{name} holds JSON records, but its name does not say so",
            hint="--text-field NAME reads that field of every record; --format text reads the JSON itself as text",
        )
    return JSON


def item_documents(items: Iterable[Item], reader: Reader) -> Iterator[str]:
    """Yield the documents of items in order. Raises UsageError, DataError.

    Record files that follow each other are one list of records, as a data set in several files is.
    """
    for is_text, group in itertools.groupby(items, key=lambda item: item.content == TEXT):
        if is_text:
            for item in group:
                yield from _text_documents(item, reader)
        else:
            yield from record_documents(group_texts(group, reader), reader.rules)


def record_documents(texts: Iterator[str], rules: Reading) -> Iterator[str]:
    """Cut the texts of records into documents. Empty texts are no documents.

    `line` and `blank-line` cut each text on its own. `wikitext` and a pattern find the lines at which documents start
    in all texts together, because data sets such as WikiText have one line per record.
    """
    texts = filter(None, texts)
    if rules.keeps_texts_whole:
        return texts
    if rules.document_pattern is not None or rules.documents == "wikitext":
        lines = itertools.chain.from_iterable(_lines(with_line_end(text)) for text in texts)
        return filter(None, cut_lines(lines, rules.documents, rules.document_pattern))
    return filter(None, itertools.chain.from_iterable(cut_lines(_lines(text), rules.documents) for text in texts))


def group_texts(items: Iterable[Item], reader: Reader) -> Iterator[str]:
    """Return the texts of the records of items that follow each other."""
    return itertools.chain.from_iterable(_record_texts(item, reader) for item in items)


def _record_texts(item: Item, reader: Reader) -> Iterator[str]:
    readers = {JSON_LINES: jsonl_texts, JSON: json_texts, PARQUET: parquet_texts}
    with item.open() as file, damage_named(item.name):
        yield from readers[item.content](file, item.name, reader)


def _text_documents(item: Item, reader: Reader) -> Iterator[str]:
    with item.open() as file, damage_named(item.name):
        if reader.rules.keeps_texts_whole:
            text = reader.decoder.decode(file.read().removeprefix(BOM), item.name)
            if text:
                yield text
        else:
            lines = (line for _, line in read_lines(file, item.name, reader.decoder))
            yield from filter(None, cut_lines(lines, reader.rules.documents, reader.rules.document_pattern))


def _lines(text: str) -> Iterable[str]:
    """Return the lines of a text with their ends. Only a line feed ends a line, as in a file."""
    return io.StringIO(text, newline="\n")


def with_line_end(text: str) -> str:
    """Return a text that ends with a line end."""
    return text if text.endswith("\n") else f"{text}\n"
