"""What killed commands left behind: temporary files and directories, blocks and folders of unfinished evaluations.

Only what no living process owns is removed: a temporary name ends in the pid of its writer, and an evaluation holds
the lock of its directory. Finished blocks of an evaluation that did not end are work: they are named and stay.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from tttkit.errors import DataError
from tttkit.health.finding import Finding
from tttkit.run import processes
from tttkit.run.directory import BLOCKS_PREFIX, KEY_LENGTH, RunDirectory, exclusive, is_locked
from tttkit.storage import commits, files

_HINT = "--fix removes it"


def examine_leftovers(run: RunDirectory, *, fix: bool) -> Iterator[Finding]:
    """All of a run that nobody trains; with `fix` the caller holds its lock."""
    yield from _examine(run.path, fix)
    if run.results is not None:
        return  # its directory is a folder of the user's
    for place in sorted(run.path.iterdir()):
        if place.is_dir() and not place.is_symlink() and place not in commits.leftovers(run.path):
            yield from _examine_evaluation(place, fix)
    for path in sorted(run.path.rglob("*.corrupt-*")):
        yield Finding(level="warning", check="leftovers", message=f"{path} was set aside as damaged")


def examine_folder(folder: Path, *, fix: bool) -> Iterator[Finding]:
    """What commands that were given a path in `folder`, such as `convert`, left beside it."""
    for path in commits.leftovers(folder):
        if files.writer_of(path) is not None:  # a folder of the user's: only a name that is surely ours
            yield _settle(path, fix)


def _examine_evaluation(place: Path, fix: bool) -> Iterator[Finding]:
    """A directory in a run; one that evaluations write to has a lock of its own. Raises RunLockedError."""
    owned = RunDirectory(place)
    if is_locked(owned):
        message = f"{place} is in use: what is being written there is not judged"
        yield Finding(level="ok", check="leftovers", message=message)
        return
    with exclusive(owned) if fix and owned.lock.exists() else nullcontext():
        yield from _examine(place, fix)
        for blocks in sorted(place.glob(f"{BLOCKS_PREFIX}*")):
            yield from _examine_blocks(place, blocks, fix)
        if place.name.startswith("eval_") and {entry.name for entry in place.iterdir()} <= {owned.lock.name}:
            yield _settle(place, fix, "the folder of an evaluation that had only begun")


def _examine(place: Path, fix: bool) -> Iterator[Finding]:
    for path in commits.leftovers(place):
        yield _settle(path, fix)


def _examine_blocks(place: Path, blocks: Path, fix: bool) -> Iterator[Finding]:
    """Blocks whose evaluation is over, or of which none was finished, are of no more use."""
    yield from _examine(blocks, fix)
    finished = [entry for entry in blocks.iterdir() if entry not in commits.leftovers(blocks)]
    if not finished:
        yield _settle(blocks, fix, "the folder of an evaluation that had only begun")
    elif blocks.name.removeprefix(BLOCKS_PREFIX) == _known_key(place)[:KEY_LENGTH]:
        yield _settle(blocks, fix, "left by an evaluation that is finished")
    else:
        size = sum(entry.stat().st_size for entry in finished) / 1e6
        message = f"{blocks}: {len(finished)} blocks, {size:,.1f} MB, of an evaluation that did not end"
        hint = f"the same `tttkit eval` goes on from them; of no more use: rm -r {shlex.quote(str(blocks))}"
        yield Finding(level="warning", check="leftovers", message=message, hint=hint)


def _known_key(place: Path) -> str:
    """Key of the evaluation whose results are in a directory; empty where there are none."""
    try:
        summary = files.read_json(place / "summary.json")
    except DataError:
        return ""
    return str(summary.get("evaluation_key", "")) if isinstance(summary, dict) else ""


def _settle(path: Path, fix: bool, what: str = "left by an interrupted write") -> Finding:
    """Remove it or tell of it, unless the process that its name carries lives; our own number is one used again."""
    pid = files.writer_of(path)
    if pid is not None and pid != os.getpid() and processes.is_alive(pid):
        return Finding(level="ok", check="leftovers", message=f"{path}: process {pid}, which may be writing it, lives")
    if fix:
        files.remove_tree(path)
        return Finding(level="mended", check="leftovers", message=f"{path}: removed, {what}")
    return Finding(level="warning", check="leftovers", message=f"{path}: {what}", hint=_HINT)
