"""Decode bytes into text: strict UTF-8 by default, with errors that name line and byte."""

from __future__ import annotations

import codecs
import dataclasses
import itertools
from collections.abc import Iterator
from typing import IO, Literal, get_args

from tttkit.data.signatures import invalid_share
from tttkit.errors import DataError, UsageError

BadUtf8 = Literal["strict", "replace", "skip"]
PIECE_BYTES = 1 << 18
"""Approximate bytes of each piece of text that `read_pieces` yields."""
BOM = b"\xef\xbb\xbf"
_CONVERT_HINT = "convert it to UTF-8: iconv -f ENCODING -t UTF-8, where ENCODING is for example LATIN1 or CP1252"
DROP_HINT = "--bad-utf8 replace (with U+FFFD) or --bad-utf8 skip"
_MOST_INVALID = 0.1
"""Largest share of invalid bytes for which the hint offers to replace them; beyond it little text would be left."""
_HINT_BYTES = 1 << 16
"""Bytes that are counted to choose the hint."""


@dataclasses.dataclass(kw_only=True)
class Utf8Decoder:
    """Decodes UTF-8 and counts the texts that it repaired."""

    bad_utf8: BadUtf8 = "strict"
    """What to do about invalid bytes: `strict` raises, `replace` puts U+FFFD in their place, `skip` drops them."""
    num_repaired: int = 0
    """Texts in which invalid bytes were replaced or skipped."""

    def __post_init__(self) -> None:
        """Refuse a misspelt choice, which would drop bytes. Raises UsageError."""
        if self.bad_utf8 not in get_args(BadUtf8):
            raise UsageError(f"bad_utf8 must be {', '.join(get_args(BadUtf8))}, got {self.bad_utf8!r}")

    def decode(self, data: bytes, name: str, *, first_line: int = 1) -> str:
        """Decode `data`, whose first line is line `first_line` of `name`. Raises DataError naming line and byte."""
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.bad_utf8 == "strict":
                raise _invalid(error, name, first_line) from error
        self.num_repaired += 1
        return data.decode("utf-8", errors=self.errors)

    def whole_characters(self, text: str, where: str) -> str:
        """Return `text` without halves of surrogate pairs, which JSON can hold and UTF-8 cannot. Raises DataError."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            if self.bad_utf8 == "strict":
                raise DataError(
                    f"{where}: \\u{ord(text[error.start]):04x} is half of a surrogate pair, not a character",
                    hint=DROP_HINT,
                ) from error
        else:
            return text
        self.num_repaired += 1
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", self.errors)

    @property
    def errors(self) -> str:
        """Python's name for the way in which invalid bytes are replaced or skipped."""
        return "replace" if self.bad_utf8 == "replace" else "ignore"


def read_lines(file: IO[bytes], name: str, decoder: Utf8Decoder) -> Iterator[tuple[int, str]]:
    """Return (number from 1, line with its line end) of each line, without a byte order mark. Raises DataError."""

    def decoded(number: int, line: bytes) -> tuple[int, str]:
        data = line.removeprefix(BOM) if number == 1 else line
        return number, decoder.decode(data, name, first_line=number)

    # `map` keeps no line while it waits for the next: one line may be large.
    return map(decoded, itertools.count(1), file)


def read_pieces(file: IO[bytes], name: str) -> Iterator[str]:
    """Yield a text of any length in pieces, without a byte order mark. Raises DataError naming line and byte."""
    rest, at_end = file.read(len(BOM)).removeprefix(BOM), False
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


def decode_pieces(file: IO[bytes], name: str, decoder: Utf8Decoder) -> Iterator[str]:
    """Yield a text like `read_pieces`, with invalid bytes replaced or skipped if the decoder says so."""
    if decoder.bad_utf8 == "strict":
        yield from read_pieces(file, name)
        return
    incremental = codecs.getincrementaldecoder("utf-8")(decoder.errors)
    strict, is_valid = codecs.getincrementaldecoder("utf-8")("strict"), True
    data = file.read(PIECE_BYTES).removeprefix(BOM)
    while True:
        if is_valid:
            try:
                strict.decode(data, not data)
            except UnicodeDecodeError:
                is_valid = False
                decoder.num_repaired += 1
        yield incremental.decode(data, not data)
        if not data:
            return
        data = file.read(PIECE_BYTES)


def _invalid(error: UnicodeDecodeError, name: str, first_line: int, before: int = 0) -> DataError:
    """Return the error to raise. The data begins `before` bytes into line `first_line`."""
    data = error.object
    line = first_line + data.count(b"\n", 0, error.start)
    byte = error.start - data.rfind(b"\n", 0, error.start) + (before if line == first_line else 0)
    is_damaging = len(data) > 64 and invalid_share(data[:_HINT_BYTES]) > _MOST_INVALID
    return DataError(
        f"{name}: invalid UTF-8 in line {line}, byte {byte} (0x{data[error.start]:02x})",
        hint=_CONVERT_HINT if is_damaging else f"{_CONVERT_HINT}; {DROP_HINT}",
    )
