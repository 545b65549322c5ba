"""Streams that can be read only once: stdin, named pipes, and the pipes of a shell such as `<(zcat a.gz)`."""

from __future__ import annotations

import os
import sys
import weakref
from pathlib import Path
from typing import IO

from tttkit.data.opening import open_binary, with_head
from tttkit.errors import UsageError
from tttkit.storage import files

STDIN = "stdin"


class Stream:
    """A stream. It can be read once, or often after `keep`."""

    def __init__(self, path: Path | None) -> None:
        """`path` of a pipe, or None for stdin."""
        self.name = STDIN if path is None else str(path)
        self._path = path
        self._head: bytes | None = None
        self._rest: IO[bytes] | None = None
        self._copy: IO[bytes] | None = None

    @property
    def identity(self) -> tuple[int, int] | str:
        """Equal for two names of one stream."""
        try:
            status = os.fstat(sys.stdin.fileno()) if self._path is None else self._path.stat()
        except (AttributeError, OSError):
            return self.name
        return status.st_dev, status.st_ino

    @property
    def head(self) -> bytes:
        """The first bytes of the decompressed content, which stay readable. Waits for them."""
        if self._head is None:
            self._head, self._rest = with_head(self._open())
        return self._head

    def keep(self) -> None:
        """Copy the stream to a temporary file, so that it can be read again. Raises DiskFullError."""
        if self._copy is None:
            with self.open() as file:
                self._copy = files.temporary_copy(file)
            weakref.finalize(self, self._copy.close)

    def open(self) -> IO[bytes]:
        """Return the content from its start. Raises UsageError if it was read already and is not kept."""
        if self._copy is not None:
            copy = os.fdopen(os.dup(self._copy.fileno()), "rb")
            copy.seek(0)
            return copy
        assert self.head is not None
        file, self._rest = self._rest, None
        if file is None:
            raise UsageError(f"{self.name} was read already, and it can be read only once")
        return file

    def _open(self) -> IO[bytes]:
        if self._path is not None:
            return open_binary(self._path)
        if sys.stdin is None:
            raise UsageError("`-` reads stdin, but stdin is closed", hint="pipe the text in, or name a file")
        return sys.stdin.buffer
