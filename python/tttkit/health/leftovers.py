"""Leftovers of killed commands: temporary files and directories, blocks and directories of unfinished evaluations.

A leftover is removed only if no live process owns it: a temporary name contains the pid of its writer, and an
evaluation holds the lock of its directory. Finished blocks of an unfinished evaluation are work: they are reported and
kept.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from tttkit.errors import DataError
from tttkit.health.examination import Examination
from tttkit.run import processes
from tttkit.run.directory import BLOCKS_PREFIX, KEY_LENGTH, RunDirectory
from tttkit.run.lock import exclusive, is_locked
from tttkit.storage import commits, files

_HINT = "--fix removes it"


def examine_leftovers(run: RunDirectory, *, fix: bool) -> Iterator[Examination]:
    """Examine a run that is not being trained. With `fix`, remove its leftovers; the caller holds the lock."""
    yield from _examine(run.path, fix)
    if run.results is not None:
        return  # the directory belongs to the user
    for place in sorted(run.path.iterdir()):
        if place.is_dir() and not place.is_symlink() and place not in commits.leftovers(run.path):
            yield from _examine_evaluation(place, fix)
    for path in sorted(run.path.rglob("*.corrupt-*")):
        yield Examination(level="warning", check="leftovers", message=f"{path} was damaged and has been renamed")


def examine_folder(folder: Path, *, fix: bool) -> Iterator[Examination]:
    """Examine leftovers of commands that write into `folder`, such as `convert`."""
    for path in commits.leftovers(folder):
        if files.writer_of(path) is not None:  # the user's folder: only names that are certainly ours
            yield _handle(path, fix)


def _examine_evaluation(place: Path, fix: bool) -> Iterator[Examination]:
    """Examine a directory in a run. The directory of an evaluation has its own lock. Raises RunLockedError."""
    owned = RunDirectory(place)
    if is_locked(owned):
        message = f"{place} is in use; files that are being written there are not examined"
        yield Examination(level="ok", check="leftovers", message=message)
        return
    with exclusive(owned) if fix and owned.lock.exists() else nullcontext():
        yield from _examine(place, fix)
        for blocks in sorted(place.glob(f"{BLOCKS_PREFIX}*")):
            yield from _examine_blocks(place, blocks, fix)
        if place.name.startswith("eval_") and {entry.name for entry in place.iterdir()} <= {owned.lock.name}:
            yield _handle(place, fix, "the directory of an evaluation that had finished nothing")


def _examine(place: Path, fix: bool) -> Iterator[Examination]:
    for path in commits.leftovers(place):
        yield _handle(path, fix)


def _examine_blocks(place: Path, blocks: Path, fix: bool) -> Iterator[Examination]:
    """Examine the blocks of an evaluation. They are useless once it is over, or if none of them was finished."""
    yield from _examine(blocks, fix)
    finished = [entry for entry in blocks.iterdir() if entry not in commits.leftovers(blocks)]
    if not finished:
        yield _handle(blocks, fix, "the directory of an evaluation that had finished nothing")
    elif blocks.name.removeprefix(BLOCKS_PREFIX) == _known_key(place)[:KEY_LENGTH]:
        yield _handle(blocks, fix, "left by an evaluation that is finished")
    else:
        size = sum(entry.stat().st_size for entry in finished) / 1e6
        message = f"{blocks}: {len(finished)} blocks, {size:,.1f} MB, of an unfinished evaluation"
        hint = f"the same `tttkit eval` continues from them; to discard them: rm -r {shlex.quote(str(blocks))}"
        yield Examination(level="warning", check="leftovers", message=message, hint=hint)


def _known_key(place: Path) -> str:
    """Return the key of the evaluation whose results are in a directory; empty when it has none."""
    try:
        summary = files.read_json(place / "summary.json")
    except DataError:
        return ""
    return str(summary.get("evaluation_key", "")) if isinstance(summary, dict) else ""


def _handle(path: Path, fix: bool, what: str = "left by an interrupted write") -> Examination:
    """Report a leftover, or remove it, unless the process in its name is alive.

    Our own pid in a name means that the pid was reused.
    """
    pid = files.writer_of(path)
    if pid is not None and pid != os.getpid() and processes.is_alive(pid):
        return Examination(
            level="ok", check="leftovers", message=f"{path}: process {pid} is alive and may be writing it"
        )
    if fix:
        files.remove_tree(path)
        return Examination(level="fixed", check="leftovers", message=f"{path}: removed, {what}")
    return Examination(level="warning", check="leftovers", message=f"{path}: {what}", hint=_HINT)
