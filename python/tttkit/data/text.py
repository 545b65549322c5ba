"""Bytes to text: strict UTF-8 by default, with the place of what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from tttkit.errors import DataError, UsageError

BadUtf8 = Literal["strict", "replace", "skip"]
_BOM = b"\xef\xbb\xbf"


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
                line = first_line + data.count(b"\n", 0, error.start)
                byte = error.start - data.rfind(b"\n", 0, error.start)
                raise DataError(
                    f"{name}: invalid UTF-8 in line {line}, byte {byte} (0x{data[error.start]:02x})",
                    hint="--bad-utf8 replace or --bad-utf8 skip",
                ) from error
        self.num_mended += 1
        return data.decode("utf-8", errors="replace" if self.bad_utf8 == "replace" else "ignore")


def read_file(path: Path, decoder: Decoder) -> str:
    """A whole file as text, without a byte order mark. Raises DataError, UsageError."""
    with open_binary(path) as file:
        return decoder.decode(file.read().removeprefix(_BOM), str(path))


def read_lines(file: IO[bytes], name: str, decoder: Decoder) -> Iterator[tuple[int, str]]:
    """Lines with their number from 1 and their line end, without a byte order mark. Raises DataError."""
    for number, line in enumerate(file, start=1):
        data = line.removeprefix(_BOM) if number == 1 else line
        yield number, decoder.decode(data, name, first_line=number)


def open_binary(path: Path) -> IO[bytes]:
    """Open for reading. Raises UsageError for a path that is missing or may not be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
