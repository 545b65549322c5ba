"""The log files of a run: metrics.jsonl, training.log, heartbeat.json.

A failed write never ends a run, and a full disk loses no line: lines wait in memory and are written in order once
there is room. Metadata, results and models wait in the same way, in `PendingWrites`.
"""

from __future__ import annotations

import datetime
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tttkit.run import memory_events, processes
from tttkit.run.directory import RunDirectory
from tttkit.storage import files
from tttkit.train.logs.pending_writes import PendingWrites

HEARTBEAT_SECONDS = 5.0
_HEARTBEAT_BYTES = 4096
"""Size of heartbeat.json. It is fixed, so that the file can be overwritten in place when the disk is full."""
_MAX_WAITING_LINES = 100_000


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the second. For display only, never for order or liveness."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class RunLog:
    """Appends to the run's log files."""

    def __init__(self, run: RunDirectory) -> None:
        """Cut incomplete last lines that a crash left; files are opened at the first write. Raises OSError."""
        self.writes = PendingWrites(expendable=frozenset({run.training_log.name}))
        self._run = run
        self._lines: dict[Path, list[str]] = {run.metrics: [], run.training_log: []}
        self._sequence = 0
        self._last_beat = -HEARTBEAT_SECONDS
        self._last_phase = ""
        for path in self._lines:
            files.trim_torn_line(path)

    def write(self, message: str) -> None:
        """Append a line to training.log."""
        self._append(self._run.training_log, f"{now()} {message}")

    def metrics(self, record: dict[str, Any]) -> None:
        """Append a record to metrics.jsonl; every float reads back to the same bits."""
        line = json.dumps(files.json_safe({**record, "time": now()}), allow_nan=False)
        self._append(self._run.metrics, line)

    def sync(self) -> bool:
        """Make all lines so far durable. Return whether no write waits except expendable ones.

        Called before a training checkpoint is committed, so that the checkpoint is never ahead of the logs.
        """
        for path in self._lines:
            self._flush(path, sync=True)
        return self.writes.is_complete

    def heartbeat(self, phase: str, step: int) -> None:
        """Write heartbeat.json, at most every HEARTBEAT_SECONDS unless the phase changed."""
        elapsed = time.monotonic() - self._last_beat
        if phase == self._last_phase and elapsed < HEARTBEAT_SECONDS:
            return
        self._last_beat, self._last_phase = time.monotonic(), phase
        self._sequence += 1
        beat = {
            "sequence": self._sequence,
            "phase": phase,
            "step": step,
            **processes.identity(),
            "monotonic": time.monotonic(),
            "time": now(),
            "problem": self.writes.problem and self.writes.problem[:400],
            "memory_events": memory_events.mark(),
        }
        data = json.dumps(beat).encode().ljust(_HEARTBEAT_BYTES - 1) + b"\n"
        with suppress(OSError):
            try:
                files.write_bytes(self._run.heartbeat, data)
            except OSError:
                files.overwrite(self._run.heartbeat, data)

    def _append(self, path: Path, line: str) -> None:
        lines = self._lines[path]
        lines.append(line)
        del lines[:-_MAX_WAITING_LINES]
        self._flush(path, sync=False)

    def _flush(self, path: Path, *, sync: bool) -> bool:
        def write() -> None:
            lines = self._lines[path]
            if lines or (sync and path.exists()):
                files.append_lines(path, lines, sync=sync)
            lines.clear()

        return self.writes.attempt(path.name, write)
