"""metadata.json: the configuration of a run, its environment, the end of each of its segments, and its result."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tttkit.config.run import Config
from tttkit.data.split import Split
from tttkit.evaluate.unigram import unigram_perplexity
from tttkit.results.summary import Summary, perplexity_key
from tttkit.run.directory import SCHEMA_VERSION, RunDirectory
from tttkit.run.saved import newest_saved_step
from tttkit.storage import files
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.logs.environment import environment
from tttkit.train.logs.metrics import now
from tttkit.train.logs.pending_writes import PendingWrites
from tttkit.train.resume.progress import TrainingProgress


class Metadata:
    """The record in memory and its file. Every change replaces the whole file."""

    def __init__(self, run: RunDirectory, values: dict[str, Any], writes: PendingWrites) -> None:
        """Take a record read from the file, or a new one; a write that fails waits in `writes`."""
        self._run = run
        self._writes = writes
        self.values = values

    @classmethod
    def new(
        cls,
        run: RunDirectory,
        config: Config,
        command: Sequence[str],
        writes: PendingWrites,
        parent: dict[str, Any] | None = None,
    ) -> Metadata:
        """Begin the record of a new run, and write it so that `status` sees the run. Raises OSError.

        `parent` says what the run starts from, if not from initial weights.
        """
        metadata = cls(
            run,
            {
                "schema_version": SCHEMA_VERSION,
                "run_id": secrets.token_hex(8),
                "command": list(command),
                "config": config.to_dict(),
                "environment": environment(),
                "world_size": 1,
                "segments": [],
                **({"parent": parent} if parent else {}),
            },
            writes,
        )
        metadata._replace()
        return metadata

    @property
    def run_id(self) -> str | None:
        """Random id that tells the training checkpoints of this run from those of another."""
        return self.values.get("run_id")

    def write(self) -> None:
        """Replace metadata.json, now or as soon as a retry succeeds."""
        self._writes.attempt("metadata.json", self._replace)

    def _replace(self) -> None:
        files.write_json(self._run.metadata, self.values)

    def describe(self, config: Config, data: dict[str, Any], model: dict[str, Any]) -> None:
        """Record the resolved configuration, the environment, and the fingerprints and sizes of data and model."""
        self.values |= {"config": config.to_dict(), "data": data, "model": model, "environment": environment()}
        self.write()

    def begin_segment(self, start_step: int, *, resumed: bool) -> None:
        """Begin the segment of this process. A segment that a crash left open is closed first."""
        segments = self.values["segments"]
        if segments and segments[-1]["reason"] is None:
            segments[-1]["reason"] = "crashed"
        segments.append(
            {"started": now(), "start_step": start_step, "end_step": None, "reason": None, "resumed": resumed,
             "resume_verified": None}
        )  # fmt: skip
        self.values.pop("result", None)
        self.write()

    def verify_segment(self, verified: bool) -> None:
        """Record whether the first losses after resuming were bit-identical to those logged before."""
        self.values["segments"][-1]["resume_verified"] = verified
        self.write()

    def note_rollback(self, from_step: int, to_step: int, lr_scale: float, why: str) -> None:
        """Record a rollback from `from_step`, the step at which numbers were not finite, to `to_step`."""
        rollback = {"from_step": from_step, "to_step": to_step, "lr_scale": lr_scale, "why": why, "time": now()}
        self.values.setdefault("rollbacks", []).append(rollback)
        self.write()

    def end_segment(self, progress: TrainingProgress, reason: str) -> None:
        """End the segment of this process, and record the newest training checkpoint on disk as `saved_step`.

        If the process has not begun to train, there is no segment to end.
        """
        if self.values["segments"]:
            self.values["segments"][-1] |= {"end_step": progress.step, "reason": reason, "ended": now()}
        result: dict[str, Any] = {"reason": reason, "step": progress.step, "tokens_seen": progress.tokens_seen}
        with suppress(OSError):  # if the disk cannot be read, the key is left out
            result["saved_step"] = newest_saved_step(self._run)
        self.values["result"] = result
        self.write()

    def set_early_stopping(self, values: dict[str, Any]) -> None:
        """Record best value and patience after an evaluation."""
        self.values["early_stopping"] = values
        self.write()

    def finish(
        self,
        progress: TrainingProgress,
        reason: str,
        stopping: EarlyStopping,
        summaries: list[Summary],
        validation: Split,
    ) -> None:
        """Record the result of a finished run. Some keys have the names of the earlier system."""
        self.end_segment(progress, reason)
        best = stopping.to_dict()
        is_final = bool(summaries) and summaries[-1].step == progress.step
        self.values["result"] |= {
            "best_checkpoint_idx": best["best_checkpoint"],
            "best_selection_ppl": best["best"],
            "early_stopped": reason == "early-stopped",
            "total_steps_completed": progress.step,
            "total_checkpoints_evaluated": len(summaries),
            "unigram_ppl": unigram_perplexity(validation),
            "final_ppl_at_1xW": summaries[-1].get(perplexity_key("full", 1)) if is_final else None,
        }
        self.write()
