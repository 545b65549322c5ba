"""Export a run: once, or as long as it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from tttkit.errors import RunLockedError, UsageError
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import locked
from tttkit.trackers.rows import Recorded, RunFacts, read_facts, read_rows

TRACKERS = ("tensorboard", "wandb", "trackio", "csv")
DEFAULT_PROJECT = "tttkit"
_LARGEST_SHARE = 0.02
"""Largest share of the time that a follower spends on reading and writing, so that it does not slow the training."""
_LOCK_SECONDS = 60.0
"""How long a follower waits for the last write of an earlier one, whose run was stopped a moment ago."""
_RETRY_SECONDS = 0.2


class Tracker(Protocol):
    """The place that an export writes to."""

    def write(self, recorded: Recorded) -> None:
        """Write what is not there yet."""

    def close(self) -> None:
        """Finish; what was written is complete."""


def open_tracker(
    name: str, run: RunDirectory, facts: RunFacts, *, output: Path | None, project: str, offline: bool
) -> Tracker:
    """Return the tracker of this name; its files go to `output`, by default into the run directory.

    Trackio keeps its database where it always does unless `output` is given. Raises UsageError if the name is unknown
    or its package is not installed.
    """
    if name == "csv":
        from tttkit.trackers.to_csv import CsvTracker

        return CsvTracker(output or run.path / "csv")
    if name == "tensorboard":
        from tttkit.trackers.to_tensorboard import TensorboardTracker

        return TensorboardTracker(output or run.path / "tensorboard", facts)
    if name == "trackio":
        from tttkit.trackers.to_trackio import TrackioTracker

        return TrackioTracker(output, facts, project)
    if name == "wandb":
        from tttkit.trackers.to_wandb import WandbTracker

        return WandbTracker(output or run.path / "wandb", facts, project, offline=offline)
    raise UsageError(f"unknown tracker `{name}`; expected one of {', '.join(TRACKERS)}")


def export(
    run: RunDirectory,
    tracker: str,
    *,
    output: Path | None = None,
    project: str = DEFAULT_PROJECT,
    offline: bool = False,
    wait: Callable[[float], bool] | None = None,
) -> int:
    """Write everything that a run has recorded to a tracker; return the number of steps that are there now.

    An export may be killed and repeated: nothing is there twice. The last step of a run that has not ended is held
    back, because an evaluation may still be added to it; `csv` alone has it. If `wait` is given, the export repeats
    until `wait(seconds)`, which waits about so many seconds, returns False, and then once more.

    Raises UsageError, DataError if the run is damaged, RunLockedError if another process exports the run to the same
    tracker, DiskFullError, OSError.
    """
    facts = read_facts(run)
    with ExitStack() as stack:
        _lock(stack, run, tracker, 0.0 if wait is None else _LOCK_SECONDS)
        target = open_tracker(tracker, run, facts, output=output, project=project, offline=offline)
        goes_on = wait is not None
        while True:
            began = time.monotonic()
            recorded = read_rows(run)
            target.write(recorded)
            if wait is None or not goes_on:
                target.close()
                return recorded.num_final
            goes_on = wait((time.monotonic() - began) / _LARGEST_SHARE)


def _lock(stack: ExitStack, run: RunDirectory, tracker: str, seconds: float) -> None:
    """Hold the lock of the exports of a run to a tracker; wait up to `seconds` for it. Raises RunLockedError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            refusal = f"{run.path} is already exported to {tracker}"
            hint = "wait for that process, or end it; nothing is lost or there twice"
            stack.enter_context(locked(run.path / f"export-{tracker}.lock", refusal, hint))
            return
        except RunLockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
