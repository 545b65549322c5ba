"""The logs of a rank other than rank 0: the same calls as in `metrics.py` and `pending_writes.py`, but no file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tttkit.train.logs.metrics import RunLog
from tttkit.train.logs.pending_writes import PendingWrites


class NoWrites(PendingWrites):
    """Takes every write as done without calling it, because rank 0 writes."""

    def attempt(self, name: str, write: Callable[[], object]) -> bool:  # noqa: ARG002
        """Call nothing and return True."""
        return True


class SilentLog(RunLog):
    """A log that writes nothing."""

    def __init__(self) -> None:
        self.writes = NoWrites()

    def write(self, message: str) -> None:
        """Write nothing."""

    def metrics(self, record: dict[str, Any]) -> None:
        """Write nothing."""

    def sync(self) -> bool:
        """Return True: there is nothing to write."""
        return True

    def heartbeat(self, phase: str, step: int) -> None:
        """Write nothing; the watch of the ranks publishes the sign of life."""
