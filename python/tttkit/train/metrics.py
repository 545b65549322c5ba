"""What a run writes about itself while it trains: metrics.jsonl, training.log, heartbeat.json, metadata.json.

None of it may end a run: a full disk costs lines, not the training. What could not be written is said once it can be.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from tttkit import files, memory_events
from tttkit.rundir import RunDirectory

HEARTBEAT_SECONDS = 5.0


def now() -> str:
    """The present, UTC, ISO 8601 to the second: for display only, never for order or liveness."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class RunLog:
    """Appends to the run's log files."""

    def __init__(self, run: RunDirectory) -> None:
        """Open nothing yet; cut the half lines that a crash left."""
        self._run = run
        self._num_lost = 0
        self._sequence = 0
        self._last_beat = -HEARTBEAT_SECONDS
        self._last_phase = ""
        for path in (run.metrics, run.training_log):
            files.trim_torn_line(path)

    def write(self, message: str) -> None:
        """One line of training.log."""
        self._append(self._run.training_log, f"{now()} {message}")

    def metrics(self, record: dict[str, Any]) -> None:
        """One record of metrics.jsonl; floats are written so that they read back to the same bits."""
        line = json.dumps(files.json_safe({**record, "time": now()}), allow_nan=False)
        self._append(self._run.metrics, line)

    def heartbeat(self, phase: str, step: int) -> None:
        """Say what the trainer is doing; at most every few seconds unless the phase changed."""
        elapsed = time.monotonic() - self._last_beat
        if phase == self._last_phase and elapsed < HEARTBEAT_SECONDS:
            return
        self._last_beat, self._last_phase = time.monotonic(), phase
        self._sequence += 1
        beat = {
            "sequence": self._sequence,
            "phase": phase,
            "step": step,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": now(),
            "memory_events": memory_events.mark(),
        }
        try:
            files.write_json(self._run.heartbeat, beat)
        except OSError:
            self._num_lost += 1

    def _append(self, path: Path, line: str) -> None:
        try:
            if self._num_lost:
                files.append_line(self._run.training_log, f"{now()} {self._num_lost} lines were lost: disk full")
                self._num_lost = 0
            files.append_line(path, line)
        except OSError:
            self._num_lost += 1
