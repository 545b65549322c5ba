"""Training checkpoints of a running training: when they are due, what happens if one cannot be written, what is said.

All ranks save at the same step, because the recurrent states of all rows are collected; rank 0 writes, and the other
ranks write their shards.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import suppress

from tttkit.distributed.ranks import Ranks
from tttkit.errors import PreemptedError
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import describe_saved, newest_saved_step
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit.train.events import Report, Saved
from tttkit.train.logs.metrics import RunLog
from tttkit.train.logs.pace import Pace
from tttkit.train.resume.training_state import TrainingState

_CHECKPOINT = "training checkpoint"
"""Name of the training checkpoint among the pending writes."""


@dataclasses.dataclass(kw_only=True)
class Saver:
    """Saves the training state of a run."""

    run: RunDirectory
    state: TrainingState
    log: RunLog
    report: Report
    warn: Callable[[str], None]
    signals: StopSignals
    pace: Pace
    ranks: Ranks
    max_steps: int
    stable_end: int | None
    """Step at which a wsd run always saves, because a longer run continues from there."""

    def save_if_due(self, save: Callable[[], None]) -> None:
        """Call `save` if it is due, if SIGUSR1 asked for it, or if an earlier write failed some time ago.

        Raises StopRequestedError if a signal has come. All ranks do the same.
        """
        step = self.state.progress.step
        is_due = self.log.writes.is_due or self.pace.may_save(step) or step == self.stable_end
        decision = self.ranks.decide(self.signals, save=is_due)
        if decision.save:
            save()
        if decision.asked:
            self.log.write(f"SIGUSR1: {self.describe_saved()}; training continues")

    def save(self) -> None:
        """Commit a training checkpoint of the current step, unless it would hold non-finite numbers.

        Everything logged before is written first, so a training checkpoint is never ahead of the run's other files. If
        the disk is full, the run warns, keeps the last good training checkpoint, continues, and tries again. Raises
        DiskFullError or OSError only for the first training checkpoint.
        """
        if self.state.is_saved or not self.state.is_finite:
            return
        step, started = self.state.progress.step, time.monotonic()
        self.log.heartbeat("saving", step)
        self.ranks.beat("saving", step)
        self.state.collect()
        if not self._write_with_all():
            self.log.heartbeat("training", step)
            return
        self.state.is_saved = True
        seconds = self.pace.count_save(started)
        self.report(Saved(step=step, seconds=seconds))

    def _write_with_all(self) -> bool:
        """Write the training checkpoint after everything else; return whether it is on disk, the same on all ranks."""
        is_first, had_problem = self.ranks.world.is_first, self.log.writes.problem is not None
        if not self.ranks.tell(is_first and self._is_ready()):
            return False
        if self.state.is_in_shards and not is_first:
            with suppress(OSError):  # rank 0 gets an error too, and decides
                self.state.write()
        return bool(self.ranks.tell(is_first and self._write(had_problem=had_problem)))

    def _is_ready(self) -> bool:
        """Write everything else that waits; return whether a training checkpoint would not be newer than the logs."""
        self.log.writes.forget(_CHECKPOINT)
        return self.state.is_first or (self.log.writes.retry() and self.log.sync()) or self._not_written()

    def _write(self, *, had_problem: bool) -> bool:
        """Write the training checkpoint; return whether it is on disk."""
        write = _once(self.state.write) if self.state.is_in_shards else self.state.write
        if self.state.is_first:
            write()
        elif not self.log.writes.attempt(_CHECKPOINT, write):
            return self._not_written()
        if had_problem:
            step = self.state.progress.step
            self.log.write(f"disk space is available again: training checkpoint of step {step} saved")
        return True

    def _not_written(self) -> bool:
        """Warn that the training checkpoint could not be written; return False."""
        writes = self.log.writes
        writes.problem = f"training checkpoint of step {self.state.progress.step} not saved: {writes.problem}"
        advice = "move the run directory back" if writes.place_is_gone else "free disk space"
        self.warn(f"{writes.problem}; training continues and tries again; {advice} in the meantime")
        return False

    def preempted(self, request: StopRequestedError) -> PreemptedError:
        """Return the error that says, after the last save, what is on disk, and log it."""
        step, problem = self.state.progress.step, self.log.writes.problem
        why = "" if self.state.is_saved or problem is None else f" ({problem})"
        what = f"stopped by {request} at step {step} of {self.max_steps}; {self.describe_saved()}{why}"
        hint = f"resume with `tttkit resume {self.run.argument}`"
        self.log.write(f"{what}; {hint}")  # the signal may have stopped the reader of stderr too
        self.log.sync()
        return PreemptedError(what, hint=hint)

    def describe_saved(self) -> str:
        """Describe what is saved, from the files on disk."""
        return describe_saved(newest_saved_step(self.run), self.state.progress.step)


def _once(write: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls `write` and, if that fails, only raises its error again when it is called again.

    All ranks must write shards together, so rank 0 cannot try again alone; the next `save` does.
    """
    errors: list[OSError] = []

    def call() -> None:
        if errors:
            raise errors[0]
        try:
            write()
        except OSError as error:
            errors.append(error)
            raise

    return call
