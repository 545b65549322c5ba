"""The lock of a run: one process at a time writes to it. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, RunLockedError
from tttkit.run import processes
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

LISTEN_SECONDS = 30.0
"""How long to listen for the heartbeat of a process on another machine. A trainer writes it every five seconds, or
after each step if a step takes longer."""
_NAMING_SECONDS = 1.0
"""How long to wait for the holder of a lock to write its name into the lock file."""
_FLOCK = "hhqqi4x"
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""


def _silent(_: str) -> None:
    """Tell nobody."""


@contextmanager
def exclusive(run: RunDirectory, tell: Callable[[str], None] = _silent) -> Iterator[None]:
    """Hold the lock of a run. It is an open-file-description lock, so the kernel releases it when the process ends.

    Some network file systems keep locks within one machine only. So if the last writer ran on another machine and
    recorded no end, this listens for its heartbeat for LISTEN_SECONDS, and says so to `tell`. Raises RunLockedError
    naming host and pid of the holder.
    """
    hint = f"see `tttkit status {run.argument}`, or choose another --out"
    with locked(run.lock, f"{run.path} is in use", hint):
        _refuse_writer_elsewhere(run, tell, hint)
        yield


@contextmanager
def locked(path: Path, refusal: str, hint: str) -> Iterator[None]:
    """Hold the lock of a file, which is made if needed and names its holder. The kernel releases the lock.

    Raises RunLockedError: `refusal`, host and pid of the holder, and `hint`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except (BlockingIOError, PermissionError) as error:
            raise RunLockedError(f"{refusal} by {_holder(descriptor)}", hint=hint) from error
        with suppress(OSError):  # on a full disk the lock holds, but does not name its holder
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{processes.describe(processes.identity())}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Return host and pid of the holder of a lock. The holder writes them into the file just after taking the lock."""
    deadline = time.monotonic() + _NAMING_SECONDS
    while not (text := os.pread(descriptor, 256, 0).decode(errors="replace").strip()):
        if time.monotonic() > deadline:
            return "an unknown process"
        time.sleep(0.01)
    return text.partition(", started")[0]


def is_locked(run: RunDirectory) -> bool:
    """Return whether a process holds the lock of a run, without taking it."""
    try:
        descriptor = os.open(run.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        query = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, query)
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def _refuse_writer_elsewhere(run: RunDirectory, tell: Callable[[str], None], hint: str) -> None:
    """Raise RunLockedError if the heartbeat of a process on another machine changes."""
    first = run.read_heartbeat() or {}
    if not processes.is_elsewhere(first) or _has_ended(run):
        return
    writer = f"host {first['host']}, pid {first.get('pid')}"
    tell(
        f"the last process of this run ({writer}) recorded no end; listening for its heartbeat for "
        f"{LISTEN_SECONDS:.0f} s, because locks may not reach other machines"
    )
    deadline = time.monotonic() + LISTEN_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        beat = run.read_heartbeat()  # None while it is being overwritten
        if beat is not None and _beat_of(beat) != _beat_of(first):
            raise RunLockedError(f"{run.path} is in use by {writer}: its heartbeat goes on", hint=hint)


def _has_ended(run: RunDirectory) -> bool:
    """Return whether the last process of a run recorded how it ended."""
    try:
        return "result" in files.read_json(run.metadata)
    except (DataError, OSError):
        return False


def _beat_of(heartbeat: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(heartbeat.get(key) for key in ("sequence", "host", "pid", "started"))
