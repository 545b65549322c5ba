"""The training loop: evaluate and save when due, train one step, until the run is finished, stopped or preempted.

A step is one optimizer update over batch_size x grad_accumulation windows. Everything that decides the next step is in
the training checkpoint that `save` writes, so a run that is killed at any time resumes bit-identically on the same
machine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tttkit.config.run import Config
from tttkit.data.split import Split
from tttkit.distributed.ranks import Ranks
from tttkit.distributed.sharded import shard
from tttkit.errors import (
    CheckpointError,
    DeviceMemoryError,
    DiskFullError,
    NumericalError,
    PreemptedError,
    RankLostError,
)
from tttkit.models import LanguageModel
from tttkit.run.directory import RunDirectory
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.evaluator import Evaluator
from tttkit.train.events import Report, Warned
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.logs.pace import Pace
from tttkit.train.logs.step_record import StepRecords
from tttkit.train.optim import build_optimizer
from tttkit.train.resume.checkpoint import LoadedCheckpoint
from tttkit.train.resume.progress import TrainingProgress
from tttkit.train.resume.resume_proof import ResumeProof
from tttkit.train.resume.training_state import TrainingState
from tttkit.train.saver import Saver
from tttkit.train.schedule import evaluation_steps, learning_rate, stable_end
from tttkit.train.threads import ThreadWatch
from tttkit.train.update import Update, Updater, is_out_of_memory


class _DivergedError(Exception):
    """Loss, gradients, fast weights or weights are not finite, so the run must roll back."""


class Trainer:
    """Trains one model in one run directory. The caller holds the lock of the directory."""

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
        ranks: Ranks | None = None,
    ) -> None:
        """Move the model to the device. Call `resume` to load the newest valid training checkpoint, if there is one.

        `ranks` are the processes that train together; by default this one is alone.
        """
        self.ranks = ranks or Ranks()
        self.run_directory = run
        self.config = config
        self.model = model.to(device)
        self.whole_model: Callable[[], LanguageModel] = lambda: self.model
        """Returns the model with all its weights; under FSDP a copy, and all ranks must call it."""
        if config.train.parallel == "fsdp" and self.ranks.world.is_distributed:
            self.whole_model = shard(self.model, self.ranks.world, config.train.precision)
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.splits = splits
        self.metadata = metadata
        self.log = log
        self.report = report
        self.signals = signals
        self.updater = Updater(
            self.model, self.optimizer, splits["train"], config, device, auto_microbatch=auto_microbatch,
            ranks=self.ranks, whole_model=self.whole_model,
        )  # fmt: skip
        self.schedule = evaluation_steps(config.train.max_steps, config.evaluation.num_checkpoints)
        self.pace = Pace(config.train, self.schedule)
        self.early_stopping = EarlyStopping(config.early_stopping, config.train.max_steps)
        self.proof = ResumeProof([], 0)
        last_stable = stable_end(config.optimizer, max_steps=config.train.max_steps)
        self.state = TrainingState(
            run, metadata.run_id, self.model, self.optimizer, self.updater, self.early_stopping, last_stable, self.ranks
        )
        self.saver = Saver(
            run=run, state=self.state, log=log, report=report, warn=self.warn, signals=signals, pace=self.pace,
            ranks=self.ranks, max_steps=config.train.max_steps, stable_end=last_stable,
        )  # fmt: skip
        self.evaluator = Evaluator(
            run=run, config=config, model=self.model, splits=splits, metadata=metadata, log=log, report=report,
            signals=signals, schedule=self.schedule, pace=self.pace, early_stopping=self.early_stopping,
            ranks=self.ranks, whole_model=self.whole_model,
        )  # fmt: skip
        before = metadata.values["config"]["train"]
        self._earlier_tokens_per_step = before["window"] * before["batch_size"] * before["grad_accumulation"]
        self._records = StepRecords(config, device, self.updater.feed, self.pace)
        self.thread_watch: ThreadWatch | None = None
        self._divergence: str | None = None

    @property
    def progress(self) -> TrainingProgress:
        """The counters of the run."""
        return self.state.progress

    def resume(self, at_most: int | None = None) -> LoadedCheckpoint | None:
        """Load the newest valid training checkpoint, up to step `at_most`; return it, or None for a new run.

        Raises CheckpointError.
        """
        loaded = self.state.load_newest(at_most)
        if loaded is None:
            return None
        self._restore(loaded)
        self.proof = ResumeProof(self.run_directory.read_metrics(), loaded.step)
        return loaded

    def run(self) -> str:
        """Train to the end. Returns `finished` or `early-stopped`.

        Raises PreemptedError after a signal, NumericalError when numbers stay non-finite, DeviceMemoryError, and
        DiskFullError when the results cannot be written at the end.
        """
        self.signals.before_leaving = lambda: self.metadata.end_segment(self.progress, "preempted")
        try:
            with self.ranks.naming_lost_ranks():
                return self._finish(self._train_to_the_end())
        except RankLostError as error:
            self.note_lost(str(error))
            raise
        except StopRequestedError as request:
            raise self._preempted(request) from None
        except DiskFullError:
            self.metadata.end_segment(self.progress, "disk-full")
            raise
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, DeviceMemoryError) or not is_out_of_memory(error):
                raise
            raise DeviceMemoryError(
                f"out of memory at step {self.progress.step}, outside the update itself",
                hint="lower --eval-num-sequences or --eval-max-length, or use a smaller model or --precision bf16",
            ) from error
        finally:
            self.updater.feed.close()

    def _train_to_the_end(self) -> str:
        """Run the training loop. Returns why the run has ended: `finished` or `early-stopped`."""
        while True:
            try:
                self.maybe_evaluate()
                while (reason := self.end_reason()) is None:
                    self.maybe_save()
                    self.train_step()
                    self.maybe_evaluate()
                return reason
            except _DivergedError as error:
                self._roll_back(str(error))

    def train_step(self) -> None:
        """Run one optimizer update: the mean loss over all tokens of all micro-batches, clipped once."""
        step, micro_batch = self.progress.step + 1, self.updater.micro_batch
        scheduled = learning_rate(step, self.config.optimizer, max_steps=self.config.train.max_steps)
        is_logged = step % self.config.train.log_every == 0 or step in (1, self.config.train.max_steps)
        updates = self.updater.run(
            step, self.progress.lr_scale * scheduled, self._between_micro_batches, read=is_logged
        )
        self.progress.advance(self.config.train.tokens_per_step)
        if (fewer := self.updater.micro_batch) != micro_batch:
            self.progress.micro_batch = fewer
            self.warn(f"out of memory with {micro_batch} windows, continuing with {fewer} at once; same total batch")
        self._count(updates)
        if updates and is_logged:
            self._log_step(updates[-1])
        if self._divergence is not None:
            raise _DivergedError(self._divergence)

    def maybe_evaluate(self) -> None:
        """Evaluate if the schedule says so. Before weights are evaluated or saved, they must be finite."""
        step = self.progress.step
        is_due = step in self.schedule and step not in self.progress.evaluated
        is_used = is_due or step >= self.config.train.max_steps or step % self.pace.save_every == 0
        if is_used and not self.state.is_finite:
            raise _DivergedError(f"weights were not finite at step {step}")
        if is_due:
            self.evaluate()

    def maybe_save(self) -> None:
        """Save if it is due or asked for. Raises StopRequestedError if any rank was asked to stop."""
        self.saver.save_if_due(self.save)

    def evaluate(self) -> None:
        """Evaluate the current weights, and export them if they are the best so far."""
        self._count(self.updater.read())
        self.evaluator.evaluate(self.progress)

    def save(self) -> None:
        """Commit a training checkpoint of the current step, unless it exists or would hold non-finite numbers.

        Raises DiskFullError or OSError only for the first training checkpoint.
        """
        self._count(self.updater.read())
        self.saver.save()

    def end_reason(self) -> str | None:
        """Return why the run has ended, or None if it has not."""
        step = self.progress.step
        if step in self.schedule and self.early_stopping.should_stop(step):
            return "early-stopped"
        return "finished" if step >= self.config.train.max_steps else None

    def note_lost(self, message: str) -> None:
        """Record that the run ends because another rank has ended or hangs."""
        self.metadata.end_segment(self.progress, "rank-lost")
        self.log.write(message)
        if self.ranks.watch is not None:
            self.ranks.watch.note_lost(message)

    def _count(self, updates: list[Update]) -> None:
        """Count updates whose results have been read, and note whether the run diverges."""
        for update in updates:
            self.progress.count(update.step, update.loss, applied=update.applied)
            self.pace.steps.append(update.seconds)
            self._watch_threads(update)
            if not update.applied:
                self.log.write(f"update {update.step} skipped: {update.numbers}")
            self._divergence = self._divergence or self.progress.divergence()

    def _watch_threads(self, update: Update) -> None:
        """Warn once if other processes slow the run down; `status` reads the warning in metadata.json."""
        if self.thread_watch is None:
            return
        message = self.thread_watch.observe(update.seconds, self.updater.feed.window)
        if message is not None:
            self.metadata.values["threads"]["warning"] = message
            self.metadata.write()
            self.warn(message)

    def _between_micro_batches(self) -> None:
        if not self.ranks.world.is_distributed:  # several ranks stop together, at the border of a step
            self.signals.poll()
        self.log.heartbeat("training", self.progress.step)
        self.ranks.beat("training", self.progress.step, self.updater.own_seconds)

    def _roll_back(self, why: str) -> None:
        """Go back to the newest valid checkpoint with half the learning rate; the second time raise NumericalError."""
        failed, num_skipped = self.progress, self.progress.num_skipped
        try:
            loaded = None if self.progress.num_rollbacks else self.state.load_newest()
        except CheckpointError:
            loaded = None
        if loaded is None:
            self.metadata.end_segment(failed, "nan-stopped")
            raise NumericalError(
                f"{why}{', after a rollback' if self.progress.num_rollbacks else ''}",
                hint=f"lower optimizer.learning_rate; {self.saver.describe_saved()}",
            ) from None
        self._restore(loaded)
        self.progress.num_rollbacks += 1
        self.progress.lr_scale *= 0.5
        self.progress.num_skipped = num_skipped
        self.proof = ResumeProof([], 0)
        self.metadata.note_rollback(failed.step, loaded.step, self.progress.lr_scale, why)
        self.warn(f"{why}: back to the training checkpoint of step {loaded.step}, with half the learning rate")
        self.save()

    def _restore(self, loaded: LoadedCheckpoint) -> None:
        self.state.restore(loaded, tokens_per_step=self._earlier_tokens_per_step)
        self.evaluator.forget_later(self.progress)
        self._divergence = None

    def _log_step(self, update: Update) -> None:
        event = self._records.record(update, self.progress)
        verified = self.proof.verified
        difference = self.proof.compare(self.progress.step, update.loss)
        if difference is not None:
            self.warn(difference)
        if self.proof.verified is not verified and self.proof.verified is not None:
            self.metadata.verify_segment(self.proof.verified)
        self.log.metrics(event.record())
        self.report(event)
        if (warning := self._records.warning(event)) is not None:
            self.warn(warning)

    def _finish(self, reason: str) -> str:
        """Write the results of the run. Raises DiskFullError, OSError; the next call can then resume."""
        self.evaluator.export("final_model", self.progress)
        self.save()
        self.log.writes.finish()
        self.metadata.finish(
            self.progress, reason, self.early_stopping, self.evaluator.summaries, self.splits["validation"]
        )
        self.log.write(f"{reason} at step {self.progress.step}")
        self.log.writes.finish()
        return reason

    def _preempted(self, request: StopRequestedError) -> PreemptedError:
        """Save, and return the error that says what is on disk."""
        self.save()
        self.metadata.end_segment(self.progress, "preempted")
        return self.saver.preempted(request)

    def warn(self, message: str) -> None:
        """Write a warning to training.log and report it."""
        self.log.write(message)
        self.report(Warned(step=self.progress.step, message=message))
