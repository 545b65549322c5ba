"""Training checkpoints of a running training: when they are due, what happens if one cannot be written, what is said.

All ranks save at the same step, because the recurrent states of all rows are collected; rank 0 writes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

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
        is_written = self.ranks.tell(self._write() if self.ranks.world.is_first else None)
        if not is_written:
            self.log.heartbeat("training", step)
            return
        self.state.is_saved = True
        seconds = self.pace.count_save(started)
        self.report(Saved(step=step, seconds=seconds))

    def _write(self) -> bool:
        """Write the training checkpoint after everything else; return whether it is on disk."""
        step, writes = self.state.progress.step, self.log.writes
        had_problem = writes.problem
        writes.forget(_CHECKPOINT)
        if self.state.is_first:
            self.state.write()
        elif not (writes.retry() and self.log.sync() and writes.attempt(_CHECKPOINT, self.state.write)):
            writes.problem = f"training checkpoint of step {step} not saved: {writes.problem}"
            advice = "move the run directory back" if writes.place_is_gone else "free disk space"
            self.warn(f"{writes.problem}; training continues and tries again; {advice} in the meantime")
            return False
        if had_problem:
            self.log.write(f"disk space is available again: training checkpoint of step {step} saved")
        return True

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
