"""Who may write to OUT, and what may be removed there.

The marker file is the proof that a directory is ours: it is written before anything else and removed after the manifest
is in place. A locked marker belongs to a preparation that is still running; the lock ends with its process, however it
ends. Without a marker nothing is ever removed.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tttkit import files
from tttkit.data.manifest import MANIFEST_NAME
from tttkit.errors import DiskFullError, RunLockedError, UsageError

MARKER_NAME = ".unfinished"
_NOTE = b"tttkit data prepare has not finished here; the next call starts clean\n"
_OURS = re.compile(r"^((train|validation)-\d{5}\.tok|tokenizer\.json|\.tmp-.*)$")


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
def claimed(out: Path) -> Iterator[None]:
    """`out` for this process alone, empty of leftovers. After an error nothing of ours is left in it.

    Raises UsageError when it cannot be made, RunLockedError while another process prepares it, DiskFullError.
    """
    made = not out.exists()
    marker = _open_marker(out)
    try:
        _lock(marker, out)
        try:
            _remove_leftovers(out)
            os.write(marker, _NOTE)
            files.fsync_directory(out)
            yield
            (out / MARKER_NAME).unlink()
        except BaseException:
            _abandon(out, made=made)
            raise
    finally:
        os.close(marker)


def _open_marker(out: Path) -> int:
    try:
        with files.disk_full_named(out):
            out.mkdir(parents=True, exist_ok=True)
            return os.open(out / MARKER_NAME, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
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


def _remove_leftovers(out: Path) -> None:
    for entry in out.iterdir():
        if _OURS.match(entry.name):
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
