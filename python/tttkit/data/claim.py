"""Who may write to OUT, what may be removed there, and what an earlier call has left that can be kept.

The marker file is the proof that a directory is ours: it is written before anything else and removed after the manifest
is in place. A locked marker belongs to a preparation that is still running; the lock ends with its process, however it
ends. Without a marker nothing is ever removed. Inside, the marker names the request and, line by line, each shard that
is whole, so that a call for the same request goes on where a killed one was.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tttkit.data.manifest import MANIFEST_NAME
from tttkit.errors import DiskFullError, RunLockedError, UsageError
from tttkit.storage import files

MARKER_NAME = ".unfinished"
_NOTE = "tttkit data prepare has not finished here; the next call for the same goes on, any other starts clean"
_OURS = re.compile(r"^((train|validation)-\d{5}\.tok|tokenizer\.json|\.tmp-.*)$")
_SHARD = re.compile(r"^(train|validation)-\d{5}\.tok$")
_MAX_MARKER_BYTES = 64 << 20


class Claim:
    """A directory that is ours for now, and the record of shards in it."""

    def __init__(self, out: Path, marker: int, request: str | None) -> None:
        """Read the record of an earlier call when it was made for the same `request`, else begin one."""
        self._out, self._marker = out, marker
        self._shards = _recorded(os.pread(marker, _MAX_MARKER_BYTES, 0), request)
        _remove_leftovers(out, {name for name, _ in self._shards})
        head = json.dumps({"note": _NOTE, "request": request})
        os.ftruncate(marker, 0)
        os.pwrite(marker, "".join(f"{line}\n" for line in (head, *map(json.dumps, self._shards))).encode(), 0)
        os.fsync(marker)
        files.fsync_directory(out)

    def kept(self, split: str) -> list[tuple[str, str]]:
        """(name, SHA-256) of the shards of a split that an earlier call has finished, in order."""
        return [(name, digest) for name, digest in self._shards if name.startswith(f"{split}-")]

    def keep_only(self, names: set[str]) -> None:
        """Remove the shards that did not verify."""
        _remove_leftovers(self._out, names | {"tokenizer.json"})
        self._shards = [shard for shard in self._shards if shard[0] in names]

    def record(self, name: str, digest: str) -> None:
        """A shard is whole from now on. One that is recorded already is left alone."""
        if (name, digest) not in self._shards:
            self._shards.append((name, digest))
            os.lseek(self._marker, 0, os.SEEK_END)
            os.write(self._marker, f"{json.dumps((name, digest))}\n".encode())
            os.fsync(self._marker)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether a later call could go on from here."""
        return bool(self._shards)


def refuse_foreign(out: Path, tokenizer: Path) -> None:
    """Raises UsageError when `out` holds anything but an unfinished preparation, or the tokenizer asked for."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="choose another --out")
    try:
        found = next(out.iterdir(), None) if out.exists() else None
    except OSError as error:
        raise UsageError(f"cannot read {out}: {error.strerror}") from error
    if found and not (out / MARKER_NAME).exists():
        raise UsageError(f"{out} is not empty and holds no data set (it has {found.name})", hint="choose another --out")
    if found and tokenizer.exists() and out.resolve() in (tokenizer.resolve(), tokenizer.resolve().parent):
        raise UsageError(
            f"tokenizer {tokenizer} lies in {out}, which an unfinished preparation left and this one would clean",
            hint="copy the tokenizer elsewhere, or choose another --out",
        )


@contextmanager
def claimed(out: Path, request: str | None) -> Iterator[Claim]:
    """`out` for this process alone, empty but for what an earlier call for the same `request` has finished.

    After an error nothing of ours is left in it; after an interruption (Ctrl-C, SIGTERM) the finished shards are.
    Raises UsageError when it cannot be made, RunLockedError while another process prepares it, DiskFullError.
    """
    made = not out.exists()
    marker = _open_marker(out)
    try:
        _lock(marker, out)
        claim = None
        try:
            claim = Claim(out, marker, request)
            yield claim
            (out / MARKER_NAME).unlink()
        except BaseException as error:
            if isinstance(error, Exception) or claim is None or not claim.is_worth_keeping:
                _abandon(out, made=made)
            raise
    finally:
        os.close(marker)


def _recorded(content: bytes, request: str | None) -> list[tuple[str, str]]:
    """Shards that the marker names; a torn last line counts for nothing."""
    try:
        head, *lines = content.decode().split("\n")[:-1]
        if request is None or json.loads(head)["request"] != request:
            return []
        shards = [(str(name), str(digest)) for name, digest in map(json.loads, lines)]
    except (ValueError, KeyError, TypeError):
        return []
    return [shard for shard in shards if _SHARD.match(shard[0])]


def _open_marker(out: Path) -> int:
    try:
        with files.disk_full_named(out):
            out.mkdir(parents=True, exist_ok=True)
            return os.open(out / MARKER_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except DiskFullError:
        raise
    except OSError as error:
        raise UsageError(f"cannot make {out}: {error.strerror}") from error


def _lock(marker: int, out: Path) -> None:
    """Hold the marker that is in `out` now. Raises RunLockedError when another process holds or has just removed it."""
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.path.samestat(os.fstat(marker), (out / MARKER_NAME).stat())
        if held and not (out / MANIFEST_NAME).exists():
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise RunLockedError(f"another process is preparing {out}", hint="wait for it, or choose another --out")


def _remove_leftovers(out: Path, kept: frozenset[str] | set[str] = frozenset()) -> None:
    for entry in out.iterdir():
        if _OURS.match(entry.name) and entry.name not in kept:
            entry.unlink()


def _abandon(out: Path, *, made: bool) -> None:
    """Take away what was written, the marker last, unless the data set is whole; an error here would hide the first."""
    if (out / MANIFEST_NAME).exists():
        return
    with suppress(OSError):
        _remove_leftovers(out)
        (out / MARKER_NAME).unlink()
        if made:
            out.rmdir()
