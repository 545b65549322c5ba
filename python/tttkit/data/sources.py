"""Parse a SOURCE: a file, directory or glob, `-` (stdin), `hf:NAME[:CONFIG]` or `stdlib`.

`parse_source` turns the text of a SOURCE into a `Source`. A source offers its documents, its inputs for Rust, and its
identity: its files with their sizes and times. The order is fixed: sources as given, the files of one source
sorted bytewise by path. Text is read when it is needed; memory holds only the documents of one batch.
"""

from __future__ import annotations

import abc
import dataclasses
import glob
import hashlib
import itertools
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from tttkit.data.file_tree import COMPRESSIONS, RECORD_SUFFIXES, TEXT_SUFFIXES, inner_suffix, is_compressed, walk
from tttkit.data.reading import Reading, file_documents, record_documents, stream_documents
from tttkit.data.records import data_set_texts
from tttkit.data.text import Utf8Decoder, damage_named, open_binary, read_pieces
from tttkit.errors import UsageError

FORMS = "a file, directory, glob, -, hf:NAME[:CONFIG] or stdlib"
_NOT_STDLIB = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


@dataclasses.dataclass(frozen=True)
class Documents:
    """Input for Rust: documents, each whole in memory."""

    texts: Iterator[str]


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Input for Rust: one text of any length in pieces, which Rust cuts like a file. It is never whole in memory."""

    texts: Iterator[str]


Input = Path | Pieces | Documents
"""Input for Rust; a path is a text file that Rust reads and cuts itself."""


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """One SOURCE. `documents` and `inputs` raise UsageError when it is missing, DataError for unusable text."""

    text: str
    """The SOURCE as it was given."""
    is_repeatable: ClassVar[bool] = True
    """Whether the source can be read more than once."""

    @abc.abstractmethod
    def documents(self, reading: Reading, decoder: Utf8Decoder, split: str) -> Iterator[str]:
        """Return the documents in order. Only data sets use `split`; they have a train and a validation split."""

    def inputs(self, reading: Reading, decoder: Utf8Decoder, split: str) -> Iterator[Input]:
        """Yield the same documents as inputs for Rust. Text that Rust can cut comes as a path or in pieces."""
        yield Documents(self.documents(reading, decoder, split))

    def sign(self, update: Callable[[bytes], object]) -> int | None:
        """Pass the identity of the source to `update` of a hash. Return its size in bytes; None if only reading tells.

        Raises UsageError when the source is missing.
        """
        update(f"{self.text}\0".encode(errors="surrogateescape"))
        return None


@dataclasses.dataclass(frozen=True)
class StandardInput(Source):
    """`-`: text from stdin."""

    is_repeatable: ClassVar[bool] = False

    def documents(self, reading: Reading, decoder: Utf8Decoder, split: str) -> Iterator[str]:
        """Yield the documents; see `Source`."""
        del split
        yield from stream_documents(sys.stdin.buffer, "stdin", reading, decoder)

    def inputs(self, reading: Reading, decoder: Utf8Decoder, split: str) -> Iterator[Input]:
        """Yield the inputs; see `Source`."""
        if _rust_can_cut(reading, decoder):
            yield Pieces(read_pieces(sys.stdin.buffer, "stdin"))
        else:
            yield from super().inputs(reading, decoder, split)


@dataclasses.dataclass(frozen=True)
class DataSet(Source):
    """`hf:NAME[:CONFIG]`: a Hugging Face data set, in a local folder or on the hub."""

    name: str
    config: str | None

    @classmethod
    def parse(cls, text: str) -> DataSet:
        """Parse hf:NAME[:CONFIG]. Raises UsageError without a NAME."""
        name, _, config = text.removeprefix("hf:").partition(":")
        if not name:
            raise UsageError(f"`{text}` names no data set", hint="hf:NAME or hf:NAME:CONFIG")
        return cls(text, name, config or None)

    def documents(self, reading: Reading, decoder: Utf8Decoder, split: str) -> Iterator[str]:
        """Return the documents; see `Source`."""
        del decoder
        texts = data_set_texts(self.name, self.config, split, field=reading.text_field, where=self.text)
        return record_documents(texts, reading)


@dataclasses.dataclass(frozen=True)
class Files(Source):
    """A file, the text files of a directory tree, or the files that match a glob."""

    def files(self) -> Iterator[Path]:
        """Return the files, sorted bytewise by path. Raises UsageError when there are none."""
        path = Path(self.text)
        if path.is_dir():
            return _text_files(path)
        if path.exists():
            return iter([path])
        if not glob.has_magic(self.text):
            raise UsageError(f"no such source: {self.text}", hint=f"expected {FORMS}")
        matches = filter(os.path.isfile, glob.iglob(self.text, recursive=True))  # noqa: PTH207
        paths = sorted(matches, key=os.fsencode)
        if not paths:
            raise UsageError(f"no file matches {self.text}")
        return map(Path, paths)

    def documents(self, reading: Reading, decoder: Utf8Decoder, split: str) -> Iterator[str]:
        """Yield the documents; see `Source`."""
        del split
        for path in self.files():
            yield from file_documents(path, reading, decoder)

    def inputs(self, reading: Reading, decoder: Utf8Decoder, split: str) -> Iterator[Input]:
        """Yield the inputs; see `Source`."""
        del split
        can_cut = _rust_can_cut(reading, decoder)
        for path in self.files():
            if not can_cut or inner_suffix(path) in RECORD_SUFFIXES:
                yield Documents(file_documents(path, reading, decoder))
            elif is_compressed(path):
                yield Pieces(_decompressed(path))
            else:
                yield path

    def sign(self, update: Callable[[bytes], object]) -> int | None:
        """Pass on the SOURCE, and the path, size and time of every file; see `Source`."""
        super().sign(update)
        total, is_known = 0, True
        for path in self.files():
            status = path.stat()
            update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
            total += status.st_size
            is_known = is_known and path.suffix.lower() not in (*COMPRESSIONS, ".parquet")
        return total if is_known else None


@dataclasses.dataclass(frozen=True)
class StandardLibrary(Files):
    """`stdlib`: the modules of this interpreter's library without its tests."""

    def files(self) -> Iterator[Path]:
        """Return the modules, sorted bytewise by path. Raises UsageError when their source is not installed."""
        root = Path(sysconfig.get_path("stdlib"))
        modules = walk(root, lambda name: name.endswith(".py"), skipped=_NOT_STDLIB)
        first = next(modules, None)
        if first is None:
            raise UsageError(
                f"the source of the Python library is not in {root}", hint="name a text file or directory instead"
            )
        return itertools.chain([first], modules)


def parse_source(text: str) -> Source:
    """Parse the text of one SOURCE. Raises UsageError for hf: without a name; files are looked up later."""
    if text == "-":
        return StandardInput(text)
    if text == "stdlib":
        return StandardLibrary(text)
    if text.startswith("hf:"):
        return DataSet.parse(text)
    return Files(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """Signature and size of sources, taken before they are read."""

    signature: str | None
    """Digest of the names, sizes and times of all files. None with stdin, which cannot be read twice.

    Data sets with equal signatures are made from the same sources.
    """
    total_bytes: int | None
    """Bytes of text, or None if only reading tells."""


def survey(sources: Iterable[Source]) -> Survey:
    """Look at every file of the sources once without reading it. Raises UsageError for a source that is missing."""
    digest, sizes, is_repeatable = hashlib.sha256(), [], True
    for source in sources:
        sizes.append(source.sign(digest.update))
        is_repeatable = is_repeatable and source.is_repeatable
    return Survey(
        signature=digest.hexdigest() if is_repeatable else None,
        total_bytes=None if None in sizes else sum(filter(None, sizes)),
    )


def _rust_can_cut(reading: Reading, decoder: Utf8Decoder) -> bool:
    return reading.document_pattern is None and decoder.bad_utf8 == "strict"


def _decompressed(path: Path) -> Iterator[str]:
    with open_binary(path) as file, damage_named(path):
        yield from read_pieces(file, str(path))


def _text_files(root: Path) -> Iterator[Path]:
    suffixes = TEXT_SUFFIXES + RECORD_SUFFIXES
    is_empty = True
    for path in walk(root, lambda name: inner_suffix(Path(name)) in suffixes):
        is_empty = False
        yield path
    if is_empty:
        raise UsageError(
            f"no text in directory {root}",
            hint=f"expected files with suffix {', '.join(suffixes)} (also .gz, .xz, .zst)",
        )
