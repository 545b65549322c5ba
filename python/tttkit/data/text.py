"""Bytes to text: strict UTF-8 by default, with the place of what is wrong."""

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
_BOM = b"\xef\xbb\xbf"
_BAD_UTF8_HINT = "--bad-utf8 replace or --bad-utf8 skip"


@dataclasses.dataclass(kw_only=True)
class Decoder:
    """Decodes UTF-8 and counts what it had to mend: `replace` puts U+FFFD, `skip` leaves the bad bytes out."""

    bad_utf8: BadUtf8 = "strict"
    num_mended: int = 0

    def decode(self, data: bytes, name: str, *, first_line: int = 1) -> str:
        """Text of `data`, whose first line is line `first_line` of `name`. Raises DataError naming line and byte."""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.bad_utf8 == "strict":
                raise _invalid(error, name, first_line) from error
        self.num_mended += 1
        return data.decode("utf-8", errors=self._errors)

    def whole_characters(self, text: str, where: str) -> str:
        """`text` without halves of surrogate pairs, which JSON can spell and UTF-8 cannot. Raises DataError."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            if self.bad_utf8 == "strict":
                raise DataError(
                    f"{where}: \\u{ord(text[error.start]):04x} is half of a surrogate pair and no character",
                    hint=_BAD_UTF8_HINT,
                ) from error
        else:
            return text
        self.num_mended += 1
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", self._errors)

    @property
    def _errors(self) -> str:
        return "replace" if self.bad_utf8 == "replace" else "ignore"


def read_file(path: Path, decoder: Decoder) -> str:
    """A whole file as text, without a byte order mark. Raises DataError, UsageError."""
    with open_binary(path) as file, damage_named(path):
        return decoder.decode(file.read().removeprefix(_BOM), str(path))


def read_lines(file: IO[bytes], name: str, decoder: Decoder) -> Iterator[tuple[int, str]]:
    """Lines with their number from 1 and their line end, without a byte order mark. Raises DataError."""

    def decoded(number: int, line: bytes) -> tuple[int, str]:
        data = line.removeprefix(_BOM) if number == 1 else line
        return number, decoder.decode(data, name, first_line=number)

    return map(decoded, itertools.count(1), file)  # holds no line while the next is waited for: one may be large


def read_pieces(file: IO[bytes], name: str) -> Iterator[str]:
    """A text of any length piece by piece, without a byte order mark. Raises DataError naming line and byte."""
    rest, at_end = file.read(len(_BOM)).removeprefix(_BOM), False
    line, before = 1, 0  # of the first byte of `rest`: its line, and how many bytes of that have come before
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
    """Says where: the data begins in line `first_line`, `before` bytes into it."""
    data = error.object
    line = first_line + data.count(b"\n", 0, error.start)
    byte = error.start - data.rfind(b"\n", 0, error.start) + (before if line == first_line else 0)
    return DataError(
        f"{name}: invalid UTF-8 in line {line}, byte {byte} (0x{data[error.start]:02x})",
        hint=_BAD_UTF8_HINT,
    )


def open_binary(path: Path) -> IO[bytes]:
    """Open for reading, decompressed by the suffix. Raises UsageError for a path that may not be read or is missing."""
    try:
        opener = _OPENERS.get(path.suffix.lower())
        return opener(path) if opener else path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _open_zstd(path: Path) -> IO[bytes]:
    import pyarrow

    path.stat()  # a missing file is named as every other is
    return cast("IO[bytes]", io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))


_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": lambda path: cast("IO[bytes]", gzip.GzipFile(path)),
    ".xz": lambda path: cast("IO[bytes]", lzma.LZMAFile(path)),  # noqa: SIM115 - the caller closes it
    ".zst": _open_zstd,
}


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what a decompressor says about a damaged file into a DataError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except OSError as error:
        if path.suffix.lower() != ".zst":
            raise
        raise DataError(f"{path} is damaged: {error}") from error
