"""Small disks that fill up: mounted, mounted in a user namespace, or simulated, so that some kind works everywhere."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest

from tttkit.storage.filesystem import FileSystem

_PAGE = 4096
"""Bytes of a page; files in a tmpfs take whole pages."""


class UnavailableError(Exception):
    """This kind of disk cannot be made here; the message says why."""


class SmallDisk(ABC):
    """A directory of limited size, outside pytest's own directory, whose removal a leftover mount would break."""

    def __init__(self, size: int) -> None:
        """Make an empty disk of `size` bytes. Raises UnavailableError."""
        self._place = Path(tempfile.mkdtemp(prefix="tttkit-disk-"))
        self.path = self._place
        """The directory of its files."""
        try:
            self._make(size)
        except UnavailableError:
            self._place.rmdir()
            raise

    @abstractmethod
    def _make(self, size: int) -> None: ...

    @abstractmethod
    def resize(self, size: int) -> None:
        """Change the size in bytes."""

    @abstractmethod
    def trial_options(self) -> dict[str, Any]:
        """Return options for a trial that writes to this disk."""

    @abstractmethod
    def fill(self, path: Path) -> None:
        """Write a file of this disk until no space is left."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the disk and everything on it."""


class MountedDisk(SmallDisk):
    """A tmpfs of the machine."""

    _prefix: tuple[str, ...] = ()

    def _make(self, size: int) -> None:
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self._place))

    def _mount(self, *arguments: str) -> None:
        result = subprocess.run([*self._prefix, "mount", *arguments], capture_output=True, text=True)
        if result.returncode:
            raise UnavailableError(f"mounting is refused: {result.stderr.strip()}")

    def resize(self, size: int) -> None:
        self._mount("-o", f"remount,size={size}", str(self._place))

    def trial_options(self) -> dict[str, Any]:
        return {}

    def fill(self, path: Path) -> None:
        with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 10_000)

    def remove(self) -> None:
        """Detach the disk even if a process still has a file open on it."""
        subprocess.run([*self._prefix, "umount", "-l", str(self._place)], capture_output=True)
        self._place.rmdir()


class NamespaceDisk(MountedDisk):
    """A tmpfs in a user namespace, which an ordinary user may mount; a process in that namespace gives access."""

    def _make(self, size: int) -> None:
        script = "echo ready; exec cat >/dev/null"
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        try:
            self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except FileNotFoundError as error:
            raise UnavailableError("the command `unshare` is missing") from error
        if self._holder.stdout.readline() != b"ready\n":
            self._end_holder()
            raise UnavailableError("user namespaces are refused")
        pid = str(self._holder.pid)
        self._prefix = ("nsenter", "--target", pid, "--user", "--mount", "--preserve-credentials")
        self.path = Path(f"/proc/{pid}/root{self._place}")
        try:
            super()._make(size)
        except UnavailableError:
            self._end_holder()
            raise

    def _end_holder(self) -> None:
        self._holder.communicate()

    def remove(self) -> None:
        """End the last process in the namespace, which ends the mount."""
        self._end_holder()
        self._place.rmdir()


class SimulatedDisk(SmallDisk):
    """A directory to which a trial can write only as much as fits, for machines on which nothing can be mounted."""

    def _make(self, size: int) -> None:
        self._size = size

    def resize(self, size: int) -> None:
        self._size = size

    def trial_options(self) -> dict[str, Any]:
        return {"disk": LimitedTo(self._size, self.path)}

    def fill(self, path: Path) -> None:
        path.write_bytes(bytes(max(0, self._size - used_bytes(self.path))))

    def remove(self) -> None:
        import shutil

        shutil.rmtree(self._place)


class LimitedTo:
    """Make a file system on which the files under `root` cannot take more than `size` bytes. Works in any process."""

    def __init__(self, size: int, root: Path) -> None:
        self.size = size
        self.root = root

    def __call__(self) -> FileSystem:
        return _Limited(self.size, self.root)


class _Limited(FileSystem):
    def __init__(self, size: int, root: Path) -> None:
        self._size = size
        self._root = root

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        end = os.lseek(descriptor, 0, os.SEEK_CUR) + len(data)
        if end <= os.fstat(descriptor).st_size:  # overwriting needs no space
            return super().write(descriptor, data)
        free = self._size - used_bytes(self._root)
        if free <= 0 and len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(descriptor, data[:free])


def used_bytes(path: Path) -> int:
    """Return the bytes that the files under a directory take, in whole pages; files may vanish during the call."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                total += -(-os.lstat(os.path.join(directory, name)).st_size // _PAGE) * _PAGE
            except FileNotFoundError:
                continue
    return total


KINDS: dict[str, type[SmallDisk]] = {"mounted": MountedDisk, "namespace": NamespaceDisk, "simulated": SimulatedDisk}


def make_disk(size: int) -> SmallDisk:
    """Return a disk of the most realistic kind that this machine allows."""
    for kind in KINDS.values():
        try:
            return kind(size)
        except UnavailableError:
            continue
    raise AssertionError("the simulated disk is always available")
