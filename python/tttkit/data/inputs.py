"""Inputs for Rust: what `encode` takes, made from the text of a file, a stream or records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from tttkit.data.documents import cut_pieces
from tttkit.data.opening import damage_named
from tttkit.data.reader import Reader, Reading
from tttkit.data.reading import Item, record_documents, with_line_end
from tttkit.data.text import decode_pieces


@dataclasses.dataclass(frozen=True)
class Documents:
    """Input for Rust: documents, each whole in memory."""

    texts: Iterator[str]


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Input for Rust: one text of any length in pieces, which Rust cuts like a file. It is never whole in memory."""

    texts: Iterator[str]


@dataclasses.dataclass(frozen=True)
class CutPieces:
    """Input for Rust: documents of any length in pieces, which Rust takes as they are; None ends each document."""

    pieces: Iterator[str | None]


Input = Path | Pieces | CutPieces | Documents
"""Input for Rust; a path is a text file that Rust reads and cuts itself."""


def text_input(item: Item, reader: Reader) -> Input:
    """Return the text of a file or a stream as an input for Rust. Rust itself reads a file that must be valid UTF-8."""
    pattern = reader.rules.document_pattern
    if pattern is not None:
        return CutPieces(cut_pieces(_pieces(item, reader), pattern))
    if reader.decoder.bad_utf8 == "strict" and item.path is not None:
        return item.path
    return Pieces(_pieces(item, reader))


def record_input(texts: Iterator[str], rules: Reading) -> Input:
    """Return the texts of records as an input for Rust; `record_documents` says what its documents are."""
    if rules.document_pattern is not None:
        return CutPieces(cut_pieces(map(with_line_end, filter(None, texts)), rules.document_pattern))
    if rules.documents == "wikitext":
        return Pieces(map(with_line_end, filter(None, texts)))
    return Documents(record_documents(texts, rules))


def _pieces(item: Item, reader: Reader) -> Iterator[str]:
    with item.open() as file, damage_named(item.name):
        yield from decode_pieces(file, item.name, reader.decoder)
