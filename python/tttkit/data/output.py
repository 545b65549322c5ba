"""Lock the output directory of a preparation, record its finished shards, and clean up after a failure.

A marker file proves that `data prepare` made the directory. It is written before anything else and removed when the
manifest is in place. A locked marker belongs to a preparation that is still running; the lock ends with its process.
Without a marker nothing is ever removed. The marker names the request and, line by line, each finished shard, so a call
with the same request resumes where an interrupted call stopped. A preparation on several machines keeps its finished
work in a folder of pieces instead.
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
from tttkit.errors import ClusterError, DiskFullError, RunLockedError, UsageError
from tttkit.storage import files

MARKER_NAME = ".unfinished"
PIECES_NAME = ".pieces"
"""Folder of the pieces from which shards are made if several machines prepare them."""
_NOTE = "tttkit data prepare has not finished here; a call with the same request resumes, any other starts clean"
_OURS = re.compile(r"^((train|validation)-\d{5}\.tok|tokenizer\.json|\.pieces|\.tmp-.*)$")
_SHARD = re.compile(r"^(train|validation)-\d{5}\.tok$")
_MAX_MARKER_BYTES = 64 << 20


class OutputDirectory:
    """An output directory that this process has locked, with the record of its finished shards."""

    def __init__(self, out: Path, marker: int, request: str | None) -> None:
        """Read the record of an earlier call if it was made for the same `request`; begin a new one otherwise."""
        self._out, self._marker = out, marker
        shards = _read_record(os.pread(marker, _MAX_MARKER_BYTES, 0), request)
        self._shards = shards or []
        _remove_leftovers(out, {name for name, _ in self._shards} | ({PIECES_NAME} if shards is not None else set()))
        head = json.dumps({"note": _NOTE, "request": request})
        os.ftruncate(marker, 0)
        os.pwrite(marker, "".join(f"{line}\n" for line in (head, *map(json.dumps, self._shards))).encode(), 0)
        os.fsync(marker)
        files.fsync_directory(out)

    @property
    def pieces(self) -> Path:
        """The folder of pieces, with those of an earlier call for the same request. It may be missing."""
        return self._out / PIECES_NAME

    def finished_shards(self, split: str) -> list[tuple[str, str]]:
        """Return (name, SHA-256) of the recorded shards of a split, in order."""
        return [(name, digest) for name, digest in self._shards if name.startswith(f"{split}-")]

    def keep_only(self, names: set[str]) -> None:
        """Remove the shards that are not in `names`, leftovers of lost processes, and the folder of pieces."""
        _remove_leftovers(self._out, names | {"tokenizer.json"})
        self._shards = [shard for shard in self._shards if shard[0] in names]

    def record(self, name: str, digest: str) -> None:
        """Record a finished shard. Does nothing if it is recorded already."""
        if (name, digest) not in self._shards:
            self._shards.append((name, digest))
            os.lseek(self._marker, 0, os.SEEK_END)
            os.write(self._marker, f"{json.dumps((name, digest))}\n".encode())
            os.fsync(self._marker)

    @property
    def is_resumable(self) -> bool:
        """Whether a later call could resume from a finished shard or piece."""
        pieces = self.pieces.iterdir() if self.pieces.is_dir() else iter(())
        return bool(self._shards) or any(not piece.name.startswith(files.TEMPORARY_PREFIX) for piece in pieces)


def check_output(out: Path, tokenizer: Path) -> None:
    """Raise UsageError if `out` holds anything but an unfinished preparation, or holds the tokenizer to be used."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="choose another --out")
    try:
        entry = next(out.iterdir(), None) if out.exists() else None
    except OSError as error:
        raise UsageError(f"cannot read {out}: {error.strerror}") from error
    if entry and not (out / MARKER_NAME).exists():
        raise UsageError(f"{out} is not empty and holds no data set (it has {entry.name})", hint="choose another --out")
    if entry and tokenizer.exists() and out.resolve() in (tokenizer.resolve(), tokenizer.resolve().parent):
        raise UsageError(
            f"tokenizer {tokenizer} lies in {out}, which holds an unfinished preparation and would be cleaned",
            hint="copy the tokenizer elsewhere, or choose another --out",
        )


@contextmanager
def locked_output(out: Path, request: str | None) -> Iterator[OutputDirectory]:
    """Make `out` and lock it for this process; only shards that an earlier call for `request` finished stay in it.

    After an error everything that this module made is removed. After an interruption (Ctrl-C, SIGTERM, a lost cluster)
    the finished work stays. Raises UsageError when `out` cannot be made, RunLockedError while another process prepares
    it, DiskFullError.
    """
    made = not out.exists()
    marker = _open_marker(out)
    try:
        _lock(marker, out)
        output = None
        try:
            output = OutputDirectory(out, marker, request)
            yield output
            (out / MARKER_NAME).unlink()
        except BaseException as error:
            is_error = isinstance(error, Exception) and not isinstance(error, ClusterError)
            if is_error or output is None or not output.is_resumable:
                _remove_unfinished(out, made=made)
            raise
    finally:
        os.close(marker)


def _read_record(content: bytes, request: str | None) -> list[tuple[str, str]] | None:
    """Return the shards that the marker names for `request`; None if it is of another request or damaged.

    A torn last line is ignored.
    """
    try:
        head, *lines = content.decode().split("\n")[:-1]
        if request is None or json.loads(head)["request"] != request:
            return None
        shards = [(str(name), str(digest)) for name, digest in map(json.loads, lines)]
    except (ValueError, KeyError, TypeError):
        return None
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
    """Lock the marker that is in `out` now. Raises RunLockedError if another process holds or just removed it."""
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_current = os.path.samestat(os.fstat(marker), (out / MARKER_NAME).stat())
        if is_current and not (out / MANIFEST_NAME).exists():
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise RunLockedError(f"another process is preparing {out}", hint="wait for it, or choose another --out")


def _remove_leftovers(out: Path, kept: frozenset[str] | set[str] = frozenset()) -> None:
    for entry in out.iterdir():
        if _OURS.match(entry.name) and entry.name not in kept:
            files.remove_tree(entry)


def _remove_unfinished(out: Path, *, made: bool) -> None:
    """Remove what was written, the marker last, unless the data set is complete.

    Errors are ignored, because they would hide the original error.
    """
    if (out / MANIFEST_NAME).exists():
        return
    with suppress(OSError):
        _remove_leftovers(out)
        (out / MARKER_NAME).unlink()
        if made:
            out.rmdir()
