"""The training loop: evaluate where the schedule says, save, train one step, until done, stopped or preempted.

A step is one optimizer update over batch_size x grad_accumulation windows. Everything that decides the next step is in
the state that `save` writes, so a run that was killed anywhere goes on bit-identically on the same machine.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from tttkit import files
from tttkit.config import Config
from tttkit.data.split import Split
from tttkit.errors import NumericalError, PreemptedError
from tttkit.evaluate.checkpoint import evaluate_model, write_checkpoint
from tttkit.models import LanguageModel
from tttkit.models.digest import weights_sha256
from tttkit.rundir import RunDirectory
from tttkit.train import checkpoint as state_files
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.export import export_model
from tttkit.train.feed import Feed
from tttkit.train.metadata import Metadata
from tttkit.train.metrics import RunLog
from tttkit.train.optim import build_optimizer, set_learning_rate
from tttkit.train.schedule import default_save_every, evaluation_steps, learning_rate
from tttkit.train.signals import StopRequestedError, StopSignals

Report = Callable[[dict[str, Any]], None]
MAX_SKIPPED_IN_A_ROW = 3


@dataclasses.dataclass(kw_only=True)
class Progress:
    """What changes from step to step, beside weights and optimizer; all of it is saved."""

    step: int = 0
    evaluated: list[int] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    """Sum of the losses of the steps since the last evaluation."""
    num_losses: int = 0
    num_skipped: int = 0
    """Updates left out because loss or gradient was not finite."""
    num_skipped_in_a_row: int = 0


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
    ) -> None:
        """Put the model on the device and go on from the newest valid state, if there is one."""
        self.run_directory = run
        self.config = config
        self.model = model.to(device)
        self.device = device
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.splits = splits
        self.metadata = metadata
        self.log = log
        self.report = report
        self.signals = signals
        self.feed = Feed(self.model, splits["train"], config.train)
        self.schedule = evaluation_steps(config.train.max_steps, config.evaluation.num_checkpoints)
        self.early_stopping = EarlyStopping(config.early_stopping, config.train.max_steps)
        self.progress = Progress()
        self.tokens_per_step = config.train.window * config.train.batch_size * config.train.grad_accumulation
        self._saved_step = -1
        self._step_seconds: deque[float] = deque(maxlen=200)
        self._evaluation_seconds: deque[float] = deque(maxlen=5)
        self._save_seconds: deque[float] = deque(maxlen=5)
        self._save_every = config.train.save_every or default_save_every(config.train.max_steps)
        self._summaries: list[dict[str, Any]] = []
        self._logged_before: dict[int, float] = {}

    def resume(self) -> state_files.LoadedState | None:
        """Go on from the newest valid state. Returns it, or None for a new run. Raises CheckpointError."""
        state = state_files.load_newest_state(self.run_directory)
        if state is None:
            return None
        state_files.restore(state, self.model, self.optimizer)
        self.feed.load(state.tensors)
        self.progress = Progress(**state.values["progress"])
        self.early_stopping.load(state.values["early_stopping"])
        self._saved_step = state.step
        known = set(self.progress.evaluated)
        self._summaries = [item for item in self.run_directory.read_summaries() if item["step"] in known]
        records = self.run_directory.read_metrics()
        self._logged_before = {record["step"]: record["loss"] for record in records if record["step"] > state.step}
        return state

    def run(self) -> str:
        """Train to the end. Returns `finished` or `early-stopped`; raises PreemptedError when a signal came."""
        try:
            while True:
                step = self.progress.step
                if step in self.schedule and step not in self.progress.evaluated:
                    self.evaluate()
                if step in self.schedule and self.early_stopping.should_stop(step):
                    return self._finish("early-stopped")
                if step >= self.config.train.max_steps:
                    return self._finish("finished")
                if step % self._save_every == 0:
                    self.save()
                self.train_step()
        except StopRequestedError as request:
            self.save()
            self.metadata.end_segment(self.progress.step, "preempted")
            self.log.write(f"{request}: state of step {self.progress.step} saved, stopping")
            raise PreemptedError(
                f"stopped by {request} at step {self.progress.step} of {self.config.train.max_steps}; state saved",
                hint=f"go on with the same command, or `tttkit train --out {self.run_directory.path}` and its options",
            ) from None

    def train_step(self) -> None:
        """One optimizer update: mean loss over all tokens of all micro-batches, clipped once."""
        started = time.perf_counter()
        step = self.progress.step + 1
        self.model.train()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        accumulation = self.config.train.grad_accumulation
        try:
            for part in self.feed.windows(step).chunk(accumulation):
                self.signals.poll()
                self.log.heartbeat("training", self.progress.step)
                loss += self._backward(part, 1.0 / accumulation)
        except StopRequestedError:
            self.optimizer.zero_grad(set_to_none=True)
            raise
        rate = learning_rate(step, self.config.optimizer, max_steps=self.config.train.max_steps)
        set_learning_rate(self.optimizer, rate)
        limit = self.config.optimizer.max_grad_norm or math.inf
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        self._update(float(loss), grad_norm)
        self.progress.step = step
        self._step_seconds.append(time.perf_counter() - started)
        if step % self.config.train.log_every == 0 or step in (1, self.config.train.max_steps):
            self._log_step(float(loss), grad_norm, rate)

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the current weights, keep them when they are the best, and write the checkpoint's files."""
        started = time.perf_counter()
        step, index = self.progress.step, self.schedule.index(self.progress.step)
        self.log.heartbeat("evaluating", step)

        def tick(done: float) -> None:
            self.signals.poll()
            self.log.heartbeat("evaluating", step)
            self.report({"event": "evaluating", "step": step, "done": done})

        window = self.config.train.window
        evaluation = evaluate_model(
            self.model, self.splits["validation"], self.config.evaluation, window=window, progress=tick
        )
        is_best = self.early_stopping.update(evaluation.selection_ppl, checkpoint=index)
        summary = write_checkpoint(
            self.run_directory.checkpoint(index), evaluation, self._context(index, time.perf_counter() - started)
        )
        self._summaries = [*(item for item in self._summaries if item["step"] != step), summary]
        files.write_json(self.run_directory.summaries, self._summaries)
        if is_best:
            self._export("best_model")
        if self.config.train.keep_weights:
            self._export(f"checkpoint_{index:03d}/model")
        self.progress.evaluated.append(step)
        self.progress.loss_sum, self.progress.num_losses = 0.0, 0
        self._evaluation_seconds.append(time.perf_counter() - started)
        self.metadata.set_early_stopping(self.early_stopping.to_dict())
        self._report_evaluation(summary, is_best=is_best)
        return summary

    def save(self) -> None:
        """Commit the resumable state of the current step. A full disk is reported and training goes on."""
        step = self.progress.step
        if step == self._saved_step:
            return
        started = time.perf_counter()
        self.log.heartbeat("saving", step)
        values = {"progress": dataclasses.asdict(self.progress), "early_stopping": self.early_stopping.to_dict()}
        try:
            state_files.save_state(self.run_directory, step, self.model, self.optimizer, values, self.feed.tensors())
        except OSError as error:
            self.log.write(f"state of step {step} not saved: {error}")
            self.report({"event": "warning", "step": step, "message": f"state not saved: {error}"})
            return
        self._saved_step = step
        self._save_seconds.append(time.perf_counter() - started)
        self.report({"event": "saved", "step": step, "seconds": self._save_seconds[-1]})

    def eta_seconds(self) -> float | None:
        """Expected seconds to the end: recent steps, and evaluations and saves to come at their measured times."""
        if not self._step_seconds:
            return None
        num_steps = self.config.train.max_steps - self.progress.step
        num_evaluations = sum(step > self.progress.step for step in self.schedule)
        num_saves = self.config.train.max_steps // self._save_every - self.progress.step // self._save_every
        evaluation, save = (median(times or (0.0,)) for times in (self._evaluation_seconds, self._save_seconds))
        return num_steps * median(self._step_seconds) + num_evaluations * evaluation + num_saves * save

    def _backward(self, batch: torch.Tensor, share: float) -> torch.Tensor:
        """Add the gradients of one micro-batch; returns its share of the loss, float64, detached."""
        batch = batch.to(self.device, non_blocking=True)  # (B, W+1)
        with self._autocast():
            logits = self.feed.logits(batch[:, :-1])  # (B, W, V)
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten()) * share
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().double()

    def _update(self, loss: float, grad_norm: float) -> None:
        """Apply the update, or leave it out and count when it is not finite. Three in a row: NumericalError."""
        progress = self.progress
        self.feed.settle(applied=math.isfinite(loss) and math.isfinite(grad_norm))
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self.optimizer.step()
            progress.num_skipped_in_a_row = 0
            progress.loss_sum += loss
            progress.num_losses += 1
        else:
            progress.num_skipped += 1
            progress.num_skipped_in_a_row += 1
            self.log.write(f"update {progress.step + 1} skipped: loss {loss}, gradient norm {grad_norm}")
        self.optimizer.zero_grad(set_to_none=True)
        if progress.num_skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            self.metadata.end_segment(progress.step, "nan-stopped")
            raise NumericalError(
                f"loss or gradients were not finite in {MAX_SKIPPED_IN_A_ROW} updates in a row, to {progress.step + 1}",
                hint="lower optimizer.learning_rate; the last saved state is finite",
            )

    def _log_step(self, loss: float, grad_norm: float, rate: float) -> None:
        seconds = median(self._step_seconds)
        record = {
            "step": self.progress.step,
            "loss": loss,
            "ppl": math.exp(min(loss, 700.0)),
            "lr": rate,
            "grad_norm": grad_norm,
            "tokens_seen": self.progress.step * self.tokens_per_step,
            "tokens_per_second": self.tokens_per_step / seconds,
            "num_skipped": self.progress.num_skipped,
            "eta_seconds": self.eta_seconds(),
        }
        if self.progress.step % self.config.train.inner_loss_every == 0:
            record |= self.feed.inner_record()
        self._verify(record)
        self.log.metrics(record)
        self.report({"event": "step", **record})

    def _verify(self, record: dict[str, Any]) -> None:
        """Compare a recomputed loss with the one logged before the run stopped: equal bits prove the resume."""
        step, loss = record["step"], record["loss"]
        if step not in self._logged_before:
            return
        before = self._logged_before.pop(step)
        if loss != before:
            message = f"step {step} was {before!r} before the run stopped and is {loss!r} now: not bit-identical"
            self.log.write(message)
            self.report({"event": "warning", "step": step, "message": message})
            self._logged_before.clear()
        self.metadata.verify_segment(loss == before)

    def _context(self, index: int, seconds: float) -> dict[str, Any]:
        """What summary.json says beside the evaluation itself."""
        progress = self.progress
        return {
            "checkpoint_idx": index,
            "step": progress.step,
            "training_loss": progress.loss_sum / progress.num_losses if progress.num_losses else None,
            "tokens_seen": progress.step * self.tokens_per_step,
            "model": self.config.model.name,
            "data_fingerprint": self.splits["validation"].fingerprint,
            "weights_sha256": weights_sha256(self.model),
            "eval_seconds": seconds,
        }

    def _report_evaluation(self, summary: dict[str, Any], *, is_best: bool) -> None:
        stopping = self.early_stopping
        self.log.write(
            f"evaluation {summary['checkpoint_idx']} at step {summary['step']}: "
            f"selection_ppl {summary['selection_ppl']:.3f}"
            f"{' (best)' if is_best else ''}, patience {stopping.num_waiting}/{stopping.config.patience}"
        )
        patience = {"num_waiting": stopping.num_waiting, "patience": stopping.config.patience}
        self.report({"event": "evaluation", "is_best": is_best, **patience, "summary": summary})

    def _export(self, name: str) -> None:
        export_model(self.model, self.run_directory.path / name, self.config, self.splits["train"])

    def _finish(self, reason: str) -> str:
        self._export("final_model")
        self.save()
        self.metadata.finish(
            self.progress.step, reason, self.early_stopping, self._summaries, self.splits["validation"]
        )
        self.log.write(f"{reason} at step {self.progress.step}")
        return reason

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.train.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()
