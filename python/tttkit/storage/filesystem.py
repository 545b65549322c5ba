"""The system calls that change a file system, one method each. Only `files` and `commits` make them.

Tests replace `current` with an object that kills the process at the n-th call, makes that call fail, or records all
calls to determine what a power failure could leave.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100


class FileSystem:
    """The calls of the operating system. All raise OSError."""

    def create(self, path: Path) -> int:
        """Create a file with the mode that the umask gives, and return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def open_append(self, path: Path) -> int:
        """Open a file, created if necessary, so that every write appends to it, and return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def open_existing(self, path: Path) -> int:
        """Open an existing file to sync it or to write in place, and return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write as much as fits, and return the number of bytes written."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Make the content of a file durable."""
        os.fsync(descriptor)

    def truncate(self, path: Path, size: int) -> None:
        """Truncate a file to `size` bytes."""
        os.truncate(path, size)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file or directory; an existing file is replaced."""
        source.replace(target)

    def exchange(self, left: Path, right: Path) -> None:
        """Exchange two names in one step. Raises OSError with EINVAL or ENOSYS if the file system cannot."""
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "renameat2"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if libc.renameat2(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _EXCHANGE):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(right))

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """Make a directory."""
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def sync_directory(self, path: Path) -> None:
        """Make the names inside a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


current = FileSystem()
"""The file system that `files` and `commits` use."""
