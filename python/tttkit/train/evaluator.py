"""Evaluations during a run: measure the current weights, write the results, keep the best model."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tttkit.config.run import Config
from tttkit.data.split import Split
from tttkit.distributed.ranks import Ranks
from tttkit.evaluate.evaluation import Evaluation, write_evaluation
from tttkit.evaluate.measure import evaluate_model
from tttkit.evaluate.sequences import text_facts
from tttkit.models import LanguageModel, save_model
from tttkit.models.digest import weights_sha256
from tttkit.results.summary import SELECTION_KEY, Summary
from tttkit.run.directory import RunDirectory
from tttkit.run.parent import past_tokens
from tttkit.run.signals import StopSignals
from tttkit.storage import commits, files
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.events import Evaluated, Evaluating, Report
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.logs.pace import Pace
from tttkit.train.resume.progress import TrainingProgress


@dataclasses.dataclass(kw_only=True)
class Evaluator:
    """Evaluates the model of a run at the steps of `schedule`. Writes that fail wait in `log.writes`."""

    run: RunDirectory
    config: Config
    model: LanguageModel
    splits: dict[str, Split]
    metadata: Metadata
    log: RunLog
    report: Report
    signals: StopSignals
    schedule: list[int]
    pace: Pace
    early_stopping: EarlyStopping
    ranks: Ranks = dataclasses.field(default_factory=Ranks)
    """The processes that share the work of an evaluation."""
    whole_model: Callable[[], LanguageModel] | None = None
    """Returns a model with all weights if `model` is sharded; all ranks must call it."""
    summaries: list[Summary] = dataclasses.field(default_factory=list)
    """Summaries of all evaluations so far."""

    def evaluate(self, progress: TrainingProgress) -> None:
        """Evaluate the current weights, write the results, and export the weights if they are the best so far.

        Raises StopRequestedError after a signal, before anything is written.
        """
        started = time.perf_counter()
        step, index = progress.step, self._next_index(progress)

        def tick(done: float) -> None:
            self.ranks.poll(self.signals)
            self.log.heartbeat("evaluating", step)
            self.ranks.beat("evaluating", step)
            self.report(Evaluating(step=step, done=done))

        tick(0.0)
        model = self.model if self.whole_model is None else self.whole_model()
        evaluation = evaluate_model(
            model,
            self.splits["validation"],
            self.config.evaluation,
            window=self.config.train.window,
            progress=tick,
            share=self.ranks if self.ranks.world.is_distributed else None,
        )
        is_best = self.early_stopping.update(evaluation.selection_ppl, checkpoint=index)
        summary = self._write(evaluation, self._context(progress, index, time.perf_counter() - started, model))
        if is_best:
            self.export("best_model", progress, model)
        if self.config.train.keep_weights:
            self.export(f"checkpoint_{index:03d}/model", progress, model)
        progress.evaluated.append(step)
        progress.loss_sum, progress.num_losses = 0.0, 0
        self.pace.evaluations.append(time.perf_counter() - started)
        self.metadata.set_early_stopping(self.early_stopping.to_dict())
        self._report_evaluation(summary, is_best=is_best)

    def forget_later(self, progress: TrainingProgress) -> None:
        """Forget the evaluations after the training checkpoint that `progress` was restored from."""
        known = set(progress.evaluated)
        summaries = self.summaries or self.run.read_summaries()  # the summaries in memory may not be written yet
        self.summaries = [item for item in summaries if item.step in known]

    def export(self, name: str, progress: TrainingProgress, model: LanguageModel | None = None) -> None:
        """Write the weights to the directory `name` of the run; if that fails, retry later from a copy in memory.

        `model` has all weights; without it all ranks must call this.
        """
        present = model or (self.model if self.whole_model is None else self.whole_model())
        facts: dict[str, int | None] = {"window": self.config.train.window, "step": progress.step}
        past = past_tokens(self.metadata.values)
        facts |= {"tokens_seen": progress.tokens_seen, **({} if past == 0 else {"past_tokens": past})}

        def write(model: LanguageModel) -> None:
            export_model(model, self.run.path / name, facts, self.splits["train"])

        if not self.log.writes.attempt(name, lambda: write(present)):
            kept = copy.deepcopy(present).cpu()
            self.log.writes.attempt(name, lambda: write(kept))

    def _next_index(self, progress: TrainingProgress) -> int:
        """Return the number of the next evaluation. It counts the evaluations, whatever the schedule has become."""
        known = [summary.index for summary in self.summaries if summary.index is not None]
        return max([len(progress.evaluated) - 1, *known]) + 1

    def _write(self, evaluation: Evaluation, context: dict[str, Any]) -> Summary:
        """Write the files of the evaluation and the list of all summaries, now or as soon as a retry succeeds."""
        directory = self.run.checkpoint(context["checkpoint_idx"])
        summary = evaluation.summary().with_values(**context)
        self.log.writes.attempt(directory.name, lambda: write_evaluation(directory, evaluation, context))
        self.summaries = [*(item for item in self.summaries if item.step != summary.step), summary]
        self.log.writes.attempt("all_summaries.json", lambda: Summary.write_all(self.run.summaries, self.summaries))
        return summary

    def _context(self, progress: TrainingProgress, index: int, seconds: float, model: LanguageModel) -> dict[str, Any]:
        """Return the facts that summary.json holds besides the figures: what was evaluated, and when."""
        return {
            "checkpoint_idx": index,
            "step": progress.step,
            "training_loss": progress.loss_sum / progress.num_losses if progress.num_losses else None,
            "tokens_seen": progress.tokens_seen,
            "model": self.config.model.name,
            "data_fingerprint": self.splits["validation"].fingerprint,
            **text_facts(self.splits["validation"]),
            "weights_sha256": weights_sha256(model),
            "eval_seconds": seconds,
        }

    def _report_evaluation(self, summary: Summary, *, is_best: bool) -> None:
        stopping = self.early_stopping
        self.log.write(
            f"evaluation {summary.index} at step {summary.step}: "
            f"selection_ppl {summary.get(SELECTION_KEY):.3f}"
            f"{' (best)' if is_best else ''}, patience {stopping.num_waiting}/{stopping.config.patience}"
        )
        step = summary.step or 0
        self.report(
            Evaluated(
                is_best=is_best,
                is_last=step == self.config.train.max_steps or stopping.should_stop(step),
                num_waiting=stopping.num_waiting,
                patience=stopping.config.patience,
                summary=summary,
            )
        )


def export_model(model: LanguageModel, path: Path, facts: dict[str, int | None], split: Split) -> None:
    """Write config.json, model.safetensors and tokenizer.json to `path`, atomically. Raises DiskFullError, OSError.

    `facts` are the keys of config.json that say how far the model was trained, and on windows of which length.
    """
    metadata = {**facts, "tokenizer_sha256": split.tokenizer_sha256, "eos_token_id": split.eos_id}
    with commits.commit_directory(path) as directory:
        save_model(model, directory, metadata=metadata)
        files.write_new(directory / "tokenizer.json", [split.tokenizer_path.read_bytes()])
