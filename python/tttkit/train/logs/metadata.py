"""metadata.json: what a run is, where it ran, how each of its segments ended, and its result."""

from __future__ import annotations

import secrets
from typing import Any

from tttkit.config.run import Config
from tttkit.data.split import Split
from tttkit.evaluate.unigram import unigram_perplexity
from tttkit.results.summary import Summary, perplexity_key
from tttkit.run.directory import SCHEMA_VERSION, RunDirectory
from tttkit.storage import files
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.logs.environment import environment
from tttkit.train.logs.metrics import PendingWrites, now


class Metadata:
    """The record in memory and its file, which is replaced whole at every change."""

    def __init__(self, run: RunDirectory, values: dict[str, Any], writes: PendingWrites) -> None:
        """Take a record read from the file, or a new one; what a full disk puts off waits in `writes`."""
        self._run = run
        self._writes = writes
        self.values = values

    @classmethod
    def new(cls, run: RunDirectory, config: Config, command: list[str], writes: PendingWrites) -> Metadata:
        """The record of a run that is about to start; written, so that `status` sees it. Raises OSError."""
        metadata = cls(
            run,
            {
                "schema_version": SCHEMA_VERSION,
                "run_id": secrets.token_hex(8),
                "command": command,
                "config": config.to_dict(),
                "environment": environment(),
                "world_size": 1,
                "segments": [],
            },
            writes,
        )
        metadata._replace()
        return metadata

    @property
    def run_id(self) -> str | None:
        """What tells the states of this run from those of another; None for a run of an earlier version."""
        return self.values.get("run_id")

    def write(self) -> None:
        """Replace metadata.json, now or once there is room."""
        self._writes.attempt("metadata.json", self._replace)

    def _replace(self) -> None:
        files.write_json(self._run.metadata, self.values)

    def describe(self, config: Config, data: dict[str, Any], model: dict[str, Any]) -> None:
        """Record what could be known only once data and model were there: resolved config, fingerprints, sizes."""
        self.values |= {"config": config.to_dict(), "data": data, "model": model, "environment": environment()}
        self.write()

    def begin_segment(self, start_step: int, *, resumed: bool) -> None:
        """A process starts or goes on; a segment left open by a crash is closed first."""
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
        """Record whether the first losses after resuming were bit-equal to those logged before."""
        self.values["segments"][-1]["resume_verified"] = verified
        self.write()

    def note_rollback(self, from_step: int, to_step: int, lr_scale: float, why: str) -> None:
        """Record that numbers went wrong and the run went back."""
        rollback = {"from_step": from_step, "to_step": to_step, "lr_scale": lr_scale, "why": why, "time": now()}
        self.values.setdefault("rollbacks", []).append(rollback)
        self.write()

    def end_segment(self, step: int, reason: str) -> None:
        """This process stops before the end of the run; it may not have begun to train."""
        if self.values["segments"]:
            self.values["segments"][-1] |= {"end_step": step, "reason": reason, "ended": now()}
        self.values["result"] = {"reason": reason, "step": step}
        self.write()

    def set_early_stopping(self, state: dict[str, Any]) -> None:
        """Best value and patience after an evaluation."""
        self.values["early_stopping"] = state
        self.write()

    def finish(
        self, step: int, reason: str, stopping: EarlyStopping, summaries: list[Summary], validation: Split
    ) -> None:
        """The run is over: record what it came to. Keys of the earlier system are kept beside ours."""
        self.end_segment(step, reason)
        best = stopping.to_dict()
        self.values["result"] |= {
            "best_checkpoint_idx": best["best_checkpoint"],
            "best_selection_ppl": best["best"],
            "early_stopped": reason == "early-stopped",
            "total_steps_completed": step,
            "total_checkpoints_evaluated": len(summaries),
            "unigram_ppl": unigram_perplexity(validation),
            "final_ppl_at_1xW": summaries[-1].get(perplexity_key("full", 1)) if summaries else None,
        }
        self.write()
