"""`Source`: what every SOURCE offers, whatever kind it is of. `sources.py` has the kinds."""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Callable, Iterator

from tttkit.data.formats import TEXT
from tttkit.data.inputs import Documents, Input, record_input, text_input
from tttkit.data.reader import Reader, Reading
from tttkit.data.reading import Item, group_texts, item_documents
from tttkit.data.stream import Stream


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
