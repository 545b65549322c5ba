"""Parse a SOURCE: a file, directory or glob, `-` (stdin), a pipe, `hf:NAME[:CONFIG]` or `stdlib`.

`parse_source` turns the text of a SOURCE into a `Source`. A source offers its documents, its inputs for Rust, and its
identity: its files with their sizes and times. The order is fixed: sources as given, the files of one source
sorted bytewise by path. Text is read when it is needed; memory holds only the documents of one batch.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tttkit.data.account import LeaveOut
from tttkit.data.data_sets import data_set_texts, is_folder, unused_files
from tttkit.data.file_sources import find_files, standard_library
from tttkit.data.file_tree import walk
from tttkit.data.formats import AUTO, DATA_SET, PARQUET, TEXT, format_of
from tttkit.data.inputs import Documents, Input, record_input, text_input
from tttkit.data.opening import check_file, refuse_head
from tttkit.data.reader import Reader, Reading
from tttkit.data.reading import (
    Item,
    concealed_content,
    file_item,
    group_texts,
    item_documents,
    record_documents,
)
from tttkit.data.stream import Stream
from tttkit.errors import UsageError


def _ignore(*_: object) -> None:
    """Leave out without a word."""


@dataclasses.dataclass(frozen=True)
class Source(abc.ABC):
    """One SOURCE. `documents` and `inputs` raise UsageError when it is missing, DataError for unusable text."""

    text: str
    """The SOURCE as it was given."""

    @property
    def stream(self) -> Stream | None:
        """The stream of a source that can be read only once; None for any other."""
        return None

    @abc.abstractmethod
    def check(self, reader: Reader) -> None:
        """Refuse what is no text before anything is read, and put into the account what is read and left out."""

    def items(self, rules: Reading) -> Iterator[Item] | None:
        """Return the files or streams in order; None for a data set, which has none."""
        del rules
        return None

    @abc.abstractmethod
    def documents(self, reader: Reader, split: str) -> Iterator[str]:
        """Return the documents in order. Only data sets use `split`; they have a train and a validation split."""

    def inputs(self, reader: Reader, split: str) -> Iterator[Input]:
        """Yield the same documents as inputs for Rust. Text that Rust can cut comes as a path or in pieces."""
        yield Documents(self.documents(reader, split))

    def sign(self, update: Callable[[bytes], object], rules: Reading) -> int | None:
        """Pass the identity of the source to `update` of a hash. Return its size in bytes; None if only reading tells.

        Raises UsageError when the source is missing.
        """
        del rules
        update(f"{self.text}\0".encode(errors="surrogateescape"))
        return None


class ItemSource(Source):
    """A source that consists of items: files or a stream."""

    @abc.abstractmethod
    def items(self, rules: Reading) -> Iterator[Item]:
        """Return the files or streams in order."""

    def documents(self, reader: Reader, split: str) -> Iterator[str]:
        """Return the documents; see `Source`."""
        del split
        return item_documents(self.items(reader.rules), reader)

    def inputs(self, reader: Reader, split: str) -> Iterator[Input]:
        """Yield the inputs; see `Source`."""
        del split
        for is_text, group in itertools.groupby(self.items(reader.rules), key=lambda item: item.content == TEXT):
            if not is_text:
                yield record_input(group_texts(group, reader), reader.rules)
                continue
            for item in group:
                yield text_input(item, reader)


@dataclasses.dataclass(frozen=True)
class StreamSource(ItemSource):
    """`-` or a pipe: one stream, which can be read once."""

    opened: Stream = dataclasses.field(compare=False, repr=False)
    path: Path | None = None
    """The pipe; None for stdin."""

    @property
    def stream(self) -> Stream:
        """The stream."""
        return self.opened

    def check(self, reader: Reader) -> None:
        """Look at the first bytes; see `Source`."""
        (item,) = self.items(reader.rules)
        refuse_head(self.opened.head, self.opened.name, item.content)
        if item.content == PARQUET:
            self.opened.keep()  # its index is at the end
        reader.account.read(item.content)

    def items(self, rules: Reading) -> Iterator[Item]:
        """Return the stream as an item."""
        content = rules.format
        if content == AUTO:
            named = format_of(self.path).content if self.path else None
            content = named or concealed_content(self.opened.head, self.opened.name, rules)
        yield Item(self.opened.name, content, self.opened.open)


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

    def check(self, reader: Reader) -> None:
        """Name the files of a local folder that the data set leaves out; see `Source`."""
        reader.account.read(DATA_SET)
        for path in unused_files(self.name, self.config):
            reader.account.leave_out("files of a data set folder", "`datasets` does not read them", path)

    def documents(self, reader: Reader, split: str) -> Iterator[str]:
        """Return the documents; see `Source`."""
        return record_documents(data_set_texts(self.name, self.config, split, self.text, reader), reader.rules)

    def inputs(self, reader: Reader, split: str) -> Iterator[Input]:
        """Yield the input; see `Source`."""
        yield record_input(data_set_texts(self.name, self.config, split, self.text, reader), reader.rules)

    def sign(self, update: Callable[[bytes], object], rules: Reading) -> int | None:
        """Pass on the SOURCE, and every file of a local folder; see `Source`."""
        super().sign(update, rules)
        if is_folder(self.name):
            for path in walk(Path(self.name), lambda _: True):
                _sign_file(path, update)
        return None


@dataclasses.dataclass(frozen=True)
class Files(ItemSource):
    """A file, the text files of a directory tree, or the files that match a glob."""

    def files(self, rules: Reading | None = None, leave_out: LeaveOut = _ignore) -> Iterator[Path]:
        """Return the files, sorted bytewise by path. Raises UsageError when there are none."""
        return find_files(self.text, rules or Reading(), leave_out)

    def items(self, rules: Reading) -> Iterator[Item]:
        """Return the files as items."""
        return (file_item(path, rules) for path in self.files(rules))

    def check(self, reader: Reader) -> None:
        """Look at the first bytes of every file; see `Source`."""
        for path in self.files(reader.rules, reader.account.leave_out):
            content = file_item(path, reader.rules).content
            check_file(path, content)
            reader.account.read(content)

    def sign(self, update: Callable[[bytes], object], rules: Reading) -> int | None:
        """Pass on the SOURCE, and the path, size and time of every file; see `Source`."""
        super().sign(update, rules)
        total, is_known = 0, True
        for path in self.files(rules):
            total += _sign_file(path, update)
            format_ = format_of(path)
            is_known = is_known and format_.compression is None and format_.content != PARQUET
        return total if is_known else None


@dataclasses.dataclass(frozen=True)
class StandardLibrary(Files):
    """`stdlib`: the modules of this interpreter's library without its tests."""

    def files(self, rules: Reading | None = None, leave_out: LeaveOut = _ignore) -> Iterator[Path]:
        """Return the modules, sorted bytewise by path. Raises UsageError when their source is not installed."""
        del rules, leave_out
        return standard_library()

    def items(self, rules: Reading) -> Iterator[Item]:
        """Return the modules as plain text, whatever the format of other sources."""
        return super().items(dataclasses.replace(rules, format=TEXT))

    def check(self, reader: Reader) -> None:
        """Count the modules; see `Source`."""
        for _ in self.files():
            reader.account.read(TEXT)


def parse_source(text: str) -> Source:
    """Parse the text of one SOURCE. Raises UsageError for hf: without a name; files are looked up later."""
    if text == "-":
        return StreamSource(text, Stream(None))
    if text == "stdlib":
        return StandardLibrary(text)
    if text.startswith("hf:"):
        return DataSet.parse(text)
    if Path(text).is_fifo():
        return StreamSource(text, Stream(Path(text)), Path(text))
    return Files(text)


def _sign_file(path: Path, update: Callable[[bytes], object]) -> int:
    """Pass on path, size and time of a file. Return its size."""
    status = path.stat()
    update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return status.st_size
