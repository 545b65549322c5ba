"""The training loop: evaluate where the schedule says, save, train one step, until done, stopped or preempted.

A step is one optimizer update over batch_size x grad_accumulation windows. Everything that decides the next step is in
the state that `save` writes, so a run that was killed anywhere goes on bit-identically on the same machine.
"""

from __future__ import annotations

import time

import torch

from tttkit.config.run import Config
from tttkit.data.split import Split
from tttkit.errors import CheckpointError, DeviceMemoryError, DiskFullError, NumericalError, PreemptedError
from tttkit.models import LanguageModel
from tttkit.run.directory import RunDirectory
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.evaluator import Evaluator, Report
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.logs.pace import Pace
from tttkit.train.logs.step_record import StepRecords
from tttkit.train.optim import build_optimizer
from tttkit.train.resume.checkpoint import LoadedState
from tttkit.train.resume.progress import Progress
from tttkit.train.resume.resume_proof import ResumeProof
from tttkit.train.resume.run_state import RunState
from tttkit.train.schedule import evaluation_steps, learning_rate
from tttkit.train.update import Update, Updater, is_out_of_memory


class Trainer:
    """Trains one model in one run directory, whose lock the caller holds."""

    def __init__(
        self,
        run: RunDirectory,
        config: Config,
        model: LanguageModel,
        splits: dict[str, Split],
        *,
        device: torch.device,
        metadata: Metadata,
        log: RunLog,
        report: Report,
        signals: StopSignals,
        auto_microbatch: bool = False,
    ) -> None:
        """Put the model on the device; `resume` goes on from the newest valid state, if there is one."""
        self.run_directory = run
        self.config = config
        self.model = model.to(device)
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.splits = splits
        self.metadata = metadata
        self.log = log
        self.report = report
        self.signals = signals
        self.updater = Updater(
            self.model, self.optimizer, splits["train"], config, device, auto_microbatch=auto_microbatch
        )
        self.schedule = evaluation_steps(config.train.max_steps, config.evaluation.num_checkpoints)
        self.pace = Pace(config.train, self.schedule)
        self.early_stopping = EarlyStopping(config.early_stopping, config.train.max_steps)
        self.proof = ResumeProof([], 0)
        self.state = RunState(run, metadata.run_id, self.model, self.optimizer, self.updater, self.early_stopping)
        self.evaluator = Evaluator(
            run=run, config=config, model=self.model, splits=splits, metadata=metadata, log=log, report=report,
            signals=signals, schedule=self.schedule, pace=self.pace, early_stopping=self.early_stopping,
        )  # fmt: skip
        self._records = StepRecords(config, device, self.updater.feed, self.pace)
        self._divergence: str | None = None

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self.state.progress

    def resume(self) -> LoadedState | None:
        """Go on from the newest valid state. Returns it, or None for a new run. Raises CheckpointError."""
        state = self.state.load_newest()
        if state is None:
            return None
        self._restore(state)
        self.proof = ResumeProof(self.run_directory.read_metrics(), state.step)
        return state

    def run(self) -> str:
        """Train to the end. Returns `finished` or `early-stopped`; raises PreemptedError when a signal came.

        Raises NumericalError when numbers stay non-finite, DeviceMemoryError, and DiskFullError when the results cannot
        be written at the end.
        """
        self.signals.before_leaving = lambda: self.metadata.end_segment(self.progress.step, "preempted")
        try:
            while (reason := self._end()) is None:
                self._before_step()
                self.train_step()
            return self._finish(reason)
        except StopRequestedError as request:
            self.save()
            self.metadata.end_segment(self.progress.step, "preempted")
            saved = "state saved" if self.state.is_saved else self.log.writes.problem or "state not saved"
            what = f"stopped by {request} at step {self.progress.step} of {self.config.train.max_steps}; {saved}"
            hint = f"go on with `tttkit resume {self.run_directory.argument}`"
            self.log.write(f"{what}; {hint}")  # who read the output may have been stopped too
            self.log.sync()
            raise PreemptedError(what, hint=hint) from None
        except DiskFullError:
            self.metadata.end_segment(self.progress.step, "disk-full")
            raise
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, DeviceMemoryError) or not is_out_of_memory(error):
                raise
            raise DeviceMemoryError(
                f"out of memory at step {self.progress.step}, beside the update itself",
                hint="lower --eval-num-sequences or --eval-max-length, or take a smaller model or --precision bf16",
            ) from error
        finally:
            self.updater.feed.close()

    def train_step(self) -> None:
        """One optimizer update: mean loss over all tokens of all micro-batches, clipped once."""
        step, micro_batch = self.progress.step + 1, self.updater.micro_batch
        rate = self.progress.lr_scale * learning_rate(
            step, self.config.optimizer, max_steps=self.config.train.max_steps
        )
        is_logged = step % self.config.train.log_every == 0 or step in (1, self.config.train.max_steps)
        updates = self.updater.run(step, rate, self._between, read=is_logged)
        self.progress.step = step
        if (fewer := self.updater.micro_batch) != micro_batch:
            self.progress.micro_batch = fewer
            self._warn(f"out of memory with {micro_batch} windows, going on with {fewer} at once; same batch")
        self._count(updates)
        if updates and is_logged:
            self._log_step(updates[-1])
        if self._divergence is not None:
            self._roll_back(self._divergence)

    def _count(self, updates: list[Update]) -> None:
        """Take note of what updates came to."""
        for update in updates:
            self.progress.count(update.step, update.loss, applied=update.applied)
            self.pace.steps.append(update.seconds)
            if not update.applied:
                self.log.write(f"update {update.step} skipped: {update.numbers}")
            self._divergence = self._divergence or self.progress.divergence()

    def evaluate(self) -> None:
        """Evaluate the current weights, and keep them when they are the best."""
        self._count(self.updater.read())
        self.evaluator.evaluate(self.progress)

    def save(self) -> None:
        """Commit the resumable state of the current step, unless it holds non-finite numbers.

        What comes before it is written first: a state never knows more than the files beside it. A full disk is
        reported, the last good state stays, training goes on and the save is tried again. Only where there is no state
        yet it raises DiskFullError, OSError.
        """
        self._count(self.updater.read())
        if self.state.is_saved or not self.state.is_finite:
            return
        step, started, writes = self.progress.step, time.monotonic(), self.log.writes
        self.log.heartbeat("saving", step)
        had_problem = writes.problem
        writes.forget("state")  # it comes last
        if self.state.is_first:
            self.state.write()
        elif not (writes.retry() and self.log.sync() and writes.attempt("state", self.state.write)):
            self._warn(f"state of step {step} not saved, training goes on: {writes.problem}")
            self.log.heartbeat("training", step)
            return
        seconds = self.pace.count_save(started)
        if had_problem:
            self.log.write(f"there is room again: state of step {step} saved")
        self.report({"event": "saved", "step": step, "seconds": seconds})

    def _end(self) -> str | None:
        """Evaluate and save what is due at this step; returns why the run is over, or None."""
        while True:
            step = self.progress.step
            is_evaluation = step in self.schedule and step not in self.progress.evaluated
            is_last = step >= self.config.train.max_steps
            if (is_evaluation or is_last or step % self.pace.save_every == 0) and not self.state.is_finite:
                self._roll_back(f"weights were not finite at step {step}")
                continue
            if is_evaluation:
                self.evaluate()
            if step in self.schedule and self.early_stopping.should_stop(step):
                return "early-stopped"
            return "finished" if is_last else None

    def _before_step(self) -> None:
        """Save where that is due, was asked for by SIGUSR1, or failed some time ago."""
        asked = self.signals.take_save_request()
        if asked or self.log.writes.is_due or self.pace.may_save(self.progress.step):
            self.save()
        if asked:
            self.log.write(f"SIGUSR1: state of step {self.progress.step} saved, going on")

    def _between(self) -> None:
        self.signals.poll()
        self.log.heartbeat("training", self.progress.step)

    def _roll_back(self, why: str) -> None:
        """Go back to the newest good state with half the learning rate; once, then NumericalError."""
        failed, num_skipped = self.progress.step, self.progress.num_skipped
        try:
            state = None if self.progress.num_rollbacks else self.state.load_newest()
        except CheckpointError:
            state = None
        if state is None:
            self.metadata.end_segment(failed, "nan-stopped")
            raise NumericalError(
                f"{why}{', after a rollback' if self.progress.num_rollbacks else ''}",
                hint="lower optimizer.learning_rate; the last saved state is finite",
            )
        self._restore(state)
        self.progress.num_rollbacks += 1
        self.progress.lr_scale *= 0.5
        self.progress.num_skipped = num_skipped
        self.proof = ResumeProof([], 0)
        self.metadata.note_rollback(failed, state.step, self.progress.lr_scale, why)
        self._warn(f"{why}: back to the state of step {state.step}, with half the learning rate")
        self.save()

    def _restore(self, state: LoadedState) -> None:
        self.state.restore(state)
        self.evaluator.go_back(self.progress)
        self._divergence = None

    def _log_step(self, update: Update) -> None:
        record = self._records.record(update, self.progress)
        verified = self.proof.verified
        difference = self.proof.compare(self.progress.step, update.loss)
        if difference is not None:
            self._warn(difference)
        if self.proof.verified is not verified and self.proof.verified is not None:
            self.metadata.verify_segment(self.proof.verified)
        self.log.metrics(record)
        self.report({"event": "step", **record})
        if (warning := self._records.warning(record)) is not None:
            self._warn(warning)

    def _finish(self, reason: str) -> str:
        """Write what the run came to. Raises DiskFullError, OSError: the next call goes on from the last state."""
        self.evaluator.export("final_model")
        self.save()
        self.log.writes.finish()
        self.metadata.finish(
            self.progress.step, reason, self.early_stopping, self.evaluator.summaries, self.splits["validation"]
        )
        self.log.write(f"{reason} at step {self.progress.step}")
        self.log.writes.finish()
        return reason

    def _warn(self, message: str) -> None:
        self.log.write(message)
        self.report({"event": "warning", "step": self.progress.step, "message": message})
