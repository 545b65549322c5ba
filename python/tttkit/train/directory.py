"""The run directory of a training run: make or accept it, clean it up, remove it if the request is refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tttkit.errors import TttkitError, UsageError
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits, files, filesystem

_HARMLESS = ("run.lock", "data")
"""Entries that a directory without a run may hold: a lock, and data prepared for a run that never started."""


def make_or_accept(out: Path, *, resume: bool) -> RunDirectory:
    """Make the directory `out`, or accept it if it is empty or holds a run. Raises UsageError for anything else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"the run directory {out} is a file", hint="choose another --out")
    run = RunDirectory(out)
    if run.metadata.exists():
        if not resume:
            raise UsageError(
                f"{out} already holds a run", hint="drop --no-resume to resume it, or choose another --out"
            )
        return run
    if out.exists() and any(
        entry.name not in _HARMLESS and not entry.name.startswith(files.TEMPORARY_PREFIX) for entry in out.iterdir()
    ):
        raise UsageError(f"{out} is not empty and holds no run", hint="choose another --out")
    try:
        with files.disk_full_named(out):
            files.make_directory(out)
    except OSError as error:
        if isinstance(error, TttkitError):
            raise
        raise UsageError(f"cannot make the run directory {out}: {error.strerror}") from error
    return run


def sweep(run: RunDirectory) -> None:
    """Remove the leftovers of interrupted writes from the directories of a run. The caller holds the lock."""
    for directory in (run.path, run.states, *run.checkpoints().values()):
        if directory.is_dir():
            commits.sweep_temporaries(directory)


def withdraw(run: RunDirectory) -> None:
    """Remove the files of a new run whose request was refused, so that the corrected request may use the path."""
    with suppress(OSError):  # prepared data stays for the next call
        for path in (run.metadata, run.heartbeat, run.training_log, run.metrics, run.lock):
            files.remove_tree(path)
        filesystem.current.rmdir(run.path)
