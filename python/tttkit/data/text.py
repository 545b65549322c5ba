"""Decode bytes into text: strict UTF-8 by default, with errors that name line and byte."""

from __future__ import annotations

import codecs
import dataclasses
import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

from tttkit.errors import DataError, UsageError

BadUtf8 = Literal["strict", "replace", "skip"]
PIECE_BYTES = 1 << 18
"""Approximate bytes of each piece of text that `read_pieces` yields."""
_BOM = b"\xef\xbb\xbf"
_BAD_UTF8_HINT = "--bad-utf8 replace or --bad-utf8 skip"


@dataclasses.dataclass(kw_only=True)
class Utf8Decoder:
    """Decodes UTF-8 and counts the texts that it repaired."""

    bad_utf8: BadUtf8 = "strict"
    """What to do about invalid bytes: `strict` raises, `replace` puts U+FFFD in their place, `skip` drops them."""
    num_repaired: int = 0
    """Texts in which invalid bytes were replaced or skipped."""

    def decode(self, data: bytes, name: str, *, first_line: int = 1) -> str:
        """Decode `data`, whose first line is line `first_line` of `name`. Raises DataError naming line and byte."""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.bad_utf8 == "strict":
                raise _invalid(error, name, first_line) from error
        self.num_repaired += 1
        return data.decode("utf-8", errors=self._errors)

    def whole_characters(self, text: str, where: str) -> str:
        """Return `text` without halves of surrogate pairs, which JSON can hold and UTF-8 cannot. Raises DataError."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            if self.bad_utf8 == "strict":
                raise DataError(
                    f"{where}: \\u{ord(text[error.start]):04x} is half of a surrogate pair, not a character",
                    hint=_BAD_UTF8_HINT,
                ) from error
        else:
            return text
        self.num_repaired += 1
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", self._errors)

    @property
    def _errors(self) -> str:
        return "replace" if self.bad_utf8 == "replace" else "ignore"


def read_file(path: Path, decoder: Utf8Decoder) -> str:
    """Return a whole file as text, without a byte order mark. Raises DataError, UsageError."""
    with open_binary(path) as file, damage_named(path):
        return decoder.decode(file.read().removeprefix(_BOM), str(path))


def read_lines(file: IO[bytes], name: str, decoder: Utf8Decoder) -> Iterator[tuple[int, str]]:
    """Return (number from 1, line with its line end) of each line, without a byte order mark. Raises DataError."""

    def decoded(number: int, line: bytes) -> tuple[int, str]:
        data = line.removeprefix(_BOM) if number == 1 else line
        return number, decoder.decode(data, name, first_line=number)

    # `map` keeps no line while it waits for the next: one line may be large.
    return map(decoded, itertools.count(1), file)


def read_pieces(file: IO[bytes], name: str) -> Iterator[str]:
    """Yield a text of any length in pieces, without a byte order mark. Raises DataError naming line and byte."""
    rest, at_end = file.read(len(_BOM)).removeprefix(_BOM), False
    line, before = 1, 0  # the line of the first byte of `rest`, and the bytes of that line before it
    while not at_end:
        more = file.read(PIECE_BYTES)
        rest, at_end = rest + more, not more
        try:
            text, used = codecs.utf_8_decode(rest, "strict", at_end)
        except UnicodeDecodeError as error:
            raise _invalid(error, name, line, before) from error
        yield text
        num_lines = rest.count(b"\n", 0, used)
        line, before = line + num_lines, (used - rest.rfind(b"\n", 0, used) - 1 if num_lines else before + used)
        rest = rest[used:]


def _invalid(error: UnicodeDecodeError, name: str, first_line: int, before: int = 0) -> DataError:
    """Return the error to raise. The data begins `before` bytes into line `first_line`."""
    data = error.object
    line = first_line + data.count(b"\n", 0, error.start)
    byte = error.start - data.rfind(b"\n", 0, error.start) + (before if line == first_line else 0)
    return DataError(
        f"{name}: invalid UTF-8 in line {line}, byte {byte} (0x{data[error.start]:02x})",
        hint=_BAD_UTF8_HINT,
    )


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressing by its suffix. Raises UsageError if it is missing or unreadable."""
    try:
        opener = _OPENERS.get(path.suffix.lower())
        return opener(path) if opener else path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _open_zstd(path: Path) -> IO[bytes]:
    import pyarrow

    path.stat()  # raises for a missing file as `open` does
    return cast("IO[bytes]", io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))


_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": lambda path: cast("IO[bytes]", gzip.GzipFile(path)),
    ".xz": lambda path: cast("IO[bytes]", lzma.LZMAFile(path)),  # noqa: SIM115 - the caller closes it
    ".zst": _open_zstd,
}


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn a decompressor's error about a damaged file into a DataError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except OSError as error:
        if path.suffix.lower() != ".zst":
            raise
        raise DataError(f"{path} is damaged: {error}") from error
