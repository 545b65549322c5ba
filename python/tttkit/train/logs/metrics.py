"""What a run writes about itself while it trains: metrics.jsonl, training.log, heartbeat.json.

None of it may end a run, and none of it is lost to a full disk: what cannot be written waits in memory and is written,
in order, once there is room. Metadata, results and models wait in the same way, in `PendingWrites`.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tttkit.run import memory_events, processes
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

HEARTBEAT_SECONDS = 5.0
RETRY_SECONDS = 10.0
_HEARTBEAT_BYTES = 4096
"""Its size is fixed, so that it can be written over in place when the disk is full."""
_MAX_WAITING_LINES = 100_000


def now() -> str:
    """The present, UTC, ISO 8601 to the second: for display only, never for order or liveness."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class PendingWrites:
    """Writes that failed: the newest of each name, tried again until it succeeds.

    Those of `expendable` names hold nothing else up: neither a state nor the end of the run.
    """

    def __init__(self, *, expendable: frozenset[str] = frozenset()) -> None:
        """Nothing has failed yet."""
        self.problem: str | None = None
        """Why the last write failed, for as long as any waits."""
        self._waiting: dict[str, Callable[[], object]] = {}
        self._expendable = expendable
        self._last_try = -RETRY_SECONDS

    def attempt(self, name: str, write: Callable[[], object]) -> bool:
        """Write now; after an OSError keep `write` for the next try. True when it is written."""
        try:
            write()
        except OSError as error:
            self._waiting[name] = write
            self.problem = str(error)
            self._last_try = time.monotonic()
            return False
        self._waiting.pop(name, None)
        if not self._waiting:
            self.problem = None
        return True

    def forget(self, name: str) -> None:
        """Do not try this one again by itself; the problem stays until another write succeeds."""
        self._waiting.pop(name, None)

    def retry(self) -> bool:
        """Write everything that waits, oldest first. True when nothing but expendable writes is left."""
        self._last_try = time.monotonic()
        for name, write in list(self._waiting.items()):
            self.attempt(name, write)
        return self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether everything is written that must be."""
        return not self._waiting.keys() - self._expendable

    def finish(self) -> None:
        """Write everything that waits. Raises the first OSError of what must be written."""
        for name, write in list(self._waiting.items()):
            if not self.attempt(name, write) and name not in self._expendable:
                write()

    @property
    def is_due(self) -> bool:
        """Whether something waits and the last try is long enough ago."""
        return self.problem is not None and time.monotonic() - self._last_try >= RETRY_SECONDS


class RunLog:
    """Appends to the run's log files."""

    def __init__(self, run: RunDirectory) -> None:
        """Open nothing yet; cut the half lines that a crash left. Raises OSError."""
        self.writes = PendingWrites(expendable=frozenset({run.training_log.name}))
        self._run = run
        self._lines: dict[Path, list[str]] = {run.metrics: [], run.training_log: []}
        self._sequence = 0
        self._last_beat = -HEARTBEAT_SECONDS
        self._last_phase = ""
        for path in self._lines:
            files.trim_torn_line(path)

    def write(self, message: str) -> None:
        """One line of training.log."""
        self._append(self._run.training_log, f"{now()} {message}")

    def metrics(self, record: dict[str, Any]) -> None:
        """One record of metrics.jsonl; floats are written so that they read back to the same bits."""
        line = json.dumps(files.json_safe({**record, "time": now()}), allow_nan=False)
        self._append(self._run.metrics, line)

    def sync(self) -> bool:
        """Make all lines so far durable; a state that is committed after them never knows more than they do."""
        for path in self._lines:
            self._flush(path, sync=True)
        return self.writes.is_complete

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
