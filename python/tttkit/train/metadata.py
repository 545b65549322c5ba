"""metadata.json: what a run is, where it ran, how each of its segments ended, and its result."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import tttkit
from tttkit import files
from tttkit.config import Config
from tttkit.data.split import Split
from tttkit.evaluate.unigram import unigram_perplexity
from tttkit.rundir import SCHEMA_VERSION, RunDirectory
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.metrics import now


class Metadata:
    """The record in memory and its file, which is replaced whole at every change."""

    def __init__(self, run: RunDirectory, values: dict[str, Any]) -> None:
        """Take a record read from the file, or a new one."""
        self._run = run
        self.values = values

    @classmethod
    def new(cls, run: RunDirectory, config: Config, command: list[str]) -> Metadata:
        """The record of a run that is about to start; written, so that `status` sees it."""
        metadata = cls(
            run,
            {
                "schema_version": SCHEMA_VERSION,
                "command": command,
                "config": config.to_dict(),
                "environment": environment(),
                "segments": [],
            },
        )
        metadata.write()
        return metadata

    def write(self) -> None:
        """Replace metadata.json. Raises DiskFullError, OSError."""
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

    def end_segment(self, step: int, reason: str) -> None:
        """This process stops before the end of the run."""
        self.values["segments"][-1] |= {"end_step": step, "reason": reason, "ended": now()}
        self.values["result"] = {"reason": reason, "step": step}
        self.write()

    def set_early_stopping(self, state: dict[str, Any]) -> None:
        """Best value and patience after an evaluation."""
        self.values["early_stopping"] = state
        self.write()

    def finish(
        self, step: int, reason: str, stopping: EarlyStopping, summaries: list[dict[str, Any]], validation: Split
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
            "final_ppl_at_1xW": summaries[-1]["ttt_ppl_at_1xW"] if summaries else None,
        }
        self.write()


def environment() -> dict[str, Any]:
    """Versions, threads and hardware that bits depend on. No environment variables: they may hold secrets."""
    return {
        "tttkit": tttkit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "tokenizers": version("tokenizers"),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu": platform.processor() or platform.machine(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "platform": sys.platform,
        "host": socket.gethostname(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Commit of the checkout that tttkit runs from; None for an installed wheel."""
    source = Path(tttkit.__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    tracked = "site-packages" not in source.parts and answer.returncode == 0
    return answer.stdout.strip() if tracked else None
