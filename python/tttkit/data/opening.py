"""Open files, pipes and stdin as decompressed bytes, and refuse a content that is not what its name says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from tttkit.data.formats import COMPRESSIONS, PARQUET, Format, format_of
from tttkit.data.signatures import COMPRESSED, HEAD_BYTES, Kind, recognize
from tttkit.data.signatures import PARQUET as PARQUET_KIND
from tttkit.errors import DataError, UsageError


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressing by its ending. Raises UsageError if it is missing or unreadable."""
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
    ".bz2": lambda path: cast("IO[bytes]", bz2.BZ2File(path)),
    ".zst": _open_zstd,
}


@contextmanager
def damage_named(path: Path | str) -> Iterator[None]:
    """Turn a decompressor's error about a damaged file into a DataError."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except OSError as error:
        if format_of(path).compression not in (".zst", ".bz2"):
            raise
        raise DataError(f"{path} is damaged: {error}") from error


def check_file(path: Path, content: str | None) -> bytes:
    """Refuse a regular file whose bytes are not what its name or `content` says. Return the start of its content.

    Raises UsageError for a device or a file that cannot be read, DataError for another kind of content.
    """
    format_ = format_of(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is {_special(mode)}, not a file", hint="name a file, or pass `-` to read stdin")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if format_.compression:
        _refuse_other_compression(head, path, format_)
        with open_binary(path) as file, damage_named(path):
            head = file.read(HEAD_BYTES)
    refuse_head(head, str(path), content)
    return head


def refuse_head(head: bytes, name: str, content: str | None) -> None:
    """Raise DataError if a content of kind `content` cannot begin with `head`. The table of endings names the kinds."""
    kind = recognize(head)
    if content == PARQUET:
        if kind not in (PARQUET_KIND, None):
            raise _is_not(name, "parquet", kind)
    elif kind is not None:
        raise _is_not(name, "UTF-8 text", kind)


def _is_not(name: str, expected: str, kind: Kind) -> DataError:
    return DataError(f"{name} is {kind.name}; expected {expected}", hint=kind.advice)


def _refuse_other_compression(head: bytes, path: Path, format_: Format) -> None:
    if head and format_.compression and recognize(head) is not COMPRESSED[format_.compression]:
        raise DataError(
            f"{path} is damaged: it does not begin like {COMPRESSIONS[format_.compression]} data",
            hint=f"if it is not compressed, remove {format_.compression} from its name",
        )


def _special(mode: int) -> str:
    kinds = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a directory")


class _WithHead(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and self._rest is not getattr(sys.stdin, "buffer", None):
            self._rest.close()
        super().close()


def with_head(file: IO[bytes], num_bytes: int = HEAD_BYTES) -> tuple[bytes, IO[bytes]]:
    """Return the first `num_bytes` of an open file, and a file that begins with them. The file need not be seekable."""
    head = b""
    while len(head) < num_bytes and (more := file.read(num_bytes - len(head))):
        head += more
    return head, cast("IO[bytes]", io.BufferedReader(_WithHead(head, file), 1 << 18))
