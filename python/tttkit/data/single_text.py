"""Hold out the end of a text if it is the only document, because then no document can be held out as a whole."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from typing import IO, cast

from tttkit.data.inputs import Documents, Input, Pieces
from tttkit.data.opening import damage_named
from tttkit.data.reader import Reader, Reading
from tttkit.data.reading import Item
from tttkit.data.sources import ItemSource
from tttkit.data.text import read_pieces
from tttkit.errors import DataError

_SEARCH_BYTES = 4096
"""Bytes in which a line end is looked for; without one the text is cut within a line."""
_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Part(ItemSource):
    """The bytes `start … stop - 1` of the content of an item."""

    item: Item
    start: int
    stop: int

    def check(self, reader: Reader) -> None:
        """Do nothing: the source of the item was checked."""

    def items(self, rules: Reading) -> Iterator[Item]:
        """Return the part as an item."""
        del rules
        yield dataclasses.replace(self.item, open=self._open, path=None)

    def documents(self, reader: Reader, split: str) -> Iterator[str]:
        """Return the document; see `Source`."""
        return self._explained(super().documents(reader, split))

    def inputs(self, reader: Reader, split: str) -> Iterator[Input]:
        """Yield the input; see `Source`."""
        for part in super().inputs(reader, split):
            assert isinstance(part, Documents | Pieces)
            yield type(part)(self._explained(part.texts))

    def _explained(self, texts: Iterator[str]) -> Iterator[str]:
        """Pass texts on. An error about a byte of the part becomes one that names its place in the whole text."""
        try:
            yield from texts
        except DataError:
            with self.item.open() as file, damage_named(self.item.name):
                for _ in read_pieces(file, self.item.name):
                    pass
            raise

    def _open(self) -> IO[bytes]:
        file = self.item.open()
        _skip(file, self.start)
        return cast("IO[bytes]", io.BufferedReader(_Limited(file, self.stop - self.start), _READ_BYTES))


class _Limited(io.RawIOBase):
    """The next `num_bytes` of an open file, which it closes."""

    def __init__(self, file: IO[bytes], num_bytes: int) -> None:
        self._file, self._left = file, num_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def cut_text(item: Item, fraction: float) -> tuple[Part, Part] | None:
    """Cut a text into a part for training and its last `fraction` for validation, at a line end if one is near.

    Returns None for an empty text. Raises DataError for a text that is too short.
    """
    with damage_named(item.name):
        size = _size(item)
        if size == 0:
            return None
        wanted = size - max(1, round(size * fraction))
        with item.open() as file:
            _skip(file, wanted)
            window = file.read(_SEARCH_BYTES)
    cut = wanted + window.find(b"\n") + 1
    if cut in (wanted, size):
        # Bytes 0x80 to 0xBF continue a character, which must stay whole.
        cut = wanted + next((at for at, byte in enumerate(window) if byte & 0xC0 != 0x80), len(window))
    if not 0 < cut < size:
        raise DataError(
            f"{item.name} is one document of {size} bytes, too short to hold out a part of it",
            hint="name the validation split with --validation, or cut documents with --documents line",
        )
    return Part(item.name, item, 0, cut), Part(item.name, item, cut, size)


def _size(item: Item) -> int:
    if item.path is not None:
        return item.path.stat().st_size
    with item.open() as file:
        return sum(map(len, iter(lambda: file.read(_READ_BYTES), b"")))


def _skip(file: IO[bytes], num_bytes: int) -> None:
    """Go to a position of a file that was just opened."""
    if file.seekable():
        file.seek(num_bytes)
        return
    while num_bytes and (data := file.read(min(num_bytes, _READ_BYTES))):
        num_bytes -= len(data)
