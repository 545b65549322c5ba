"""File systems that replace the real one: killed at a call, failing at a call, or recorded for a power failure."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from tttkit.storage.filesystem import FileSystem

CALLS = (
    "create", "open_append", "open_existing", "write", "sync", "truncate", "rename", "exchange", "unlink", "mkdir",
    "rmdir", "sync_directory",
)  # fmt: skip
"""The calls that can fail or be the last one. `close` is not among them, since it loses nothing."""

Matches = Callable[[str, tuple], bool]
"""A function that returns whether a call, given by name and arguments, matches."""


class Counted(FileSystem):
    """Call `at(n, name, arguments)` before the n-th call, counted from 1."""

    def __init__(self, at: Callable[[int, str, tuple], None]) -> None:
        self.num_calls = 0
        self._at = at


def _counted(name: str):
    real = getattr(FileSystem, name)

    def call(self, *arguments):
        self.num_calls += 1
        self._at(self.num_calls, name, arguments)
        return real(self, *arguments)

    return call


for _name in CALLS:
    setattr(Counted, _name, _counted(_name))


def everything(_name: str, _arguments: tuple) -> bool:
    return True


class KilledAt:
    """Send this process a signal before the n-th matching call. Calling it returns the file system."""

    def __init__(self, number: int, matches: Matches = everything, by: signal.Signals = signal.SIGKILL) -> None:
        self.number = number
        self.matches = matches
        self.by = by

    def __call__(self) -> Counted:
        seen = [0]

        def at(_count: int, name: str, arguments: tuple) -> None:
            if self.matches(name, arguments):
                seen[0] += 1
                if seen[0] == self.number:
                    os.kill(os.getpid(), self.by)

        return Counted(at)


class Touching:
    """Match calls with a path that contains a text; with `removing`, only calls that remove something."""

    def __init__(self, text: str, *, removing: bool = False) -> None:
        self.text = text
        self.removing = removing

    def __call__(self, name: str, arguments: tuple) -> bool:
        paths = [str(argument) for argument in arguments if isinstance(argument, Path)]
        return any(self.text in path for path in paths) and (not self.removing or name in ("unlink", "rmdir"))


def failing_at(number: int, error: int, *, persistent: bool, only: str | None = None) -> Counted:
    """Return a file system whose n-th call (of kind `only`) fails with `error`; with `persistent`, later ones too."""
    seen = [0]

    def at(_count: int, name: str, _arguments: tuple) -> None:
        if only is not None and name != only:
            return
        seen[0] += 1
        if seen[0] == number or (persistent and seen[0] > number):
            raise OSError(error, os.strerror(error))

    return Counted(at)


class Inode:
    """A file: `durable` is its content after the last sync, `pending` lists the writes and truncations since then."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[tuple[int, bytes]] = []  # (offset, data); a truncation is (size, None)

    def content(self) -> bytes:
        return _apply(self.durable, self.pending)


class Directory:
    """A directory: `durable` holds its names after the last sync, `history` every value of each name since then."""

    def __init__(self) -> None:
        self.durable: dict[str, Inode | Directory] = {}
        self.current: dict[str, Inode | Directory] = {}
        self.history: dict[str, list[Inode | Directory | None]] = {}

    def set(self, name: str, value: Inode | Directory | None) -> None:
        self.history.setdefault(name, [self.durable.get(name)]).append(value)
        if value is None:
            del self.current[name]
        else:
            self.current[name] = value

    def sync(self) -> None:
        self.durable, self.history = dict(self.current), {}


class Recorded(FileSystem):
    """Record every call, so that `crash` can recreate what the disk may hold if the power fails after any call.

    Every call is also made in the real directory, which serves the readers.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple] = []
        self._open: dict[int, Path] = {}

    def _log(self, *call: object) -> None:
        self.calls.append(call)

    def note(self, text: str) -> None:
        """Record, between two calls, that `text` is durable from here on."""
        self._log("note", text)

    def create(self, path):
        descriptor = super().create(path)
        self._open[descriptor] = path
        self._log("create", path)
        return descriptor

    def open_append(self, path):
        fresh = not path.exists()
        descriptor = super().open_append(path)
        self._open[descriptor] = path
        if fresh:
            self._log("create", path)
        return descriptor

    def open_existing(self, path):
        descriptor = super().open_existing(path)
        self._open[descriptor] = path
        return descriptor

    def write(self, descriptor, data):
        path = self._open[descriptor]
        written = super().write(descriptor, data)
        self._log("write", path, bytes(data[:written]))
        return written

    def sync(self, descriptor):
        super().sync(descriptor)
        self._log("sync", self._open[descriptor])

    def truncate(self, path, size):
        super().truncate(path, size)
        self._log("truncate", path, size)

    def rename(self, source, target):
        super().rename(source, target)
        self._log("rename", source, target)

    def exchange(self, left, right):
        super().exchange(left, right)
        self._log("exchange", left, right)

    def unlink(self, path):
        super().unlink(path)
        self._log("unlink", path)

    def mkdir(self, path):
        super().mkdir(path)
        self._log("mkdir", path)

    def rmdir(self, path):
        super().rmdir(path)
        self._log("unlink", path)

    def sync_directory(self, path):
        super().sync_directory(path)
        self._log("sync_directory", path)

    def crash(self, num_calls: int, target: Path, generator: random.Random) -> None:
        """Make one possible content of the disk in `target`, if the power fails after `num_calls` calls."""
        root = Directory()
        for call in self.calls[:num_calls]:
            if call[0] != "note":
                _replay(root, self.root, call)
        _materialize(root, target, generator)


def _replay(root: Directory, base: Path, call: tuple) -> None:
    kind, path, *rest = call
    if kind == "sync_directory":
        _find(root, base, path).sync()
        return
    parent, name = _find(root, base, path.parent), path.name
    if kind == "create":
        parent.set(name, Inode())
    elif kind == "mkdir":
        parent.set(name, Directory())
    elif kind == "unlink":
        parent.set(name, None)
    elif kind == "write":
        inode = parent.current[name]
        inode.pending.append((len(inode.content()), rest[0]))
    elif kind == "truncate":
        parent.current[name].pending.append((rest[0], None))
    elif kind == "sync":
        inode = parent.current[name]
        inode.durable, inode.pending = inode.content(), []
    elif kind == "rename":
        moved = parent.current[name]
        parent.set(name, None)
        _find(root, base, rest[0].parent).set(rest[0].name, moved)
    elif kind == "exchange":
        left, right = parent.current[name], parent.current[rest[0].name]
        parent.set(name, right)
        parent.set(rest[0].name, left)


def _find(root: Directory, base: Path, path: Path) -> Directory:
    directory = root
    for part in path.relative_to(base).parts:
        directory = directory.current[part]
    return directory


def _materialize(directory: Directory, target: Path, generator: random.Random) -> None:
    target.mkdir(exist_ok=True)
    names = dict(directory.durable)
    for name, values in directory.history.items():  # a name that is not durable has any of its values
        names[name] = generator.choice(values)
    for name, value in names.items():
        if isinstance(value, Directory):
            _materialize(value, target / name, generator)
        elif value is not None:
            (target / name).write_bytes(_outcome(value, generator))


def _outcome(inode: Inode, generator: random.Random) -> bytes:
    """Keep, drop, or garble each write that was not synced, and return the content."""
    kept = []
    for offset, data in inode.pending:
        fate = generator.choice(("kept", "dropped", "garbage"))
        if fate == "kept" or data is None:
            kept.append((offset, data))
        elif fate == "garbage":
            kept.append((offset, generator.randbytes(len(data))))
    return _apply(inode.durable, kept)


def _apply(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    data = bytearray(content)
    for offset, piece in changes:
        if piece is None:
            del data[offset:]
            continue
        data.extend(b"\0" * (offset - len(data)))
        data[offset : offset + len(piece)] = piece
    return bytes(data)
