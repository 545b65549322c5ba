"""The calls that change a file system, one method each. `files` is built on them, and nothing else makes them.

Tests put another object in place of `current`: one that kills the process at the n-th call, fails it, or records all
of them to find out what a power failure could leave.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_AT_FDCWD = -100


class FileSystem:
    """The operating system's own calls. All raise OSError."""

    def create(self, path: Path) -> int:
        """Descriptor of a new file, with the mode that the umask gives."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def open_append(self, path: Path) -> int:
        """Descriptor of a file that every write goes to the end of; made if need be."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def open_existing(self, path: Path) -> int:
        """Descriptor of a file that is there, to be synced or written in place."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write what fits; returns how many bytes that was."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Make a file's content durable."""
        os.fsync(descriptor)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes."""
        os.truncate(path, size)

    def close(self, descriptor: int) -> None:
        """Give a descriptor back."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename; a file takes the place of the one that is there."""
        source.replace(target)

    def exchange(self, left: Path, right: Path) -> None:
        """Exchange two names in one step. EINVAL or ENOSYS where the file system cannot."""
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
"""What `files` calls."""
