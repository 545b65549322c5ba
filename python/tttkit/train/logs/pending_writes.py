"""Writes that failed, for example on a full disk, and wait in memory until they succeed."""

from __future__ import annotations

import time
from collections.abc import Callable

RETRY_SECONDS = 10.0


class PendingWrites:
    """Keeps the newest failed write of each name and tries it again until it succeeds.

    Writes with an `expendable` name delay nothing else: neither a training checkpoint nor the end of the run.
    """

    def __init__(self, *, expendable: frozenset[str] = frozenset()) -> None:
        """Begin with no failed writes."""
        self.problem: str | None = None
        """The error of the last failed write; None after all waiting writes have succeeded."""
        self.place_is_gone = False
        """Whether the last failed write found no directory, because it was moved or deleted."""
        self._waiting: dict[str, Callable[[], object]] = {}
        self._expendable = expendable
        self._last_try = -RETRY_SECONDS

    def attempt(self, name: str, write: Callable[[], object]) -> bool:
        """Write now; after an OSError keep `write` for the next try. Return whether it was written."""
        try:
            write()
        except OSError as error:
            self._waiting[name] = write
            self.problem = str(error)
            self.place_is_gone = isinstance(error, FileNotFoundError)
            self._last_try = time.monotonic()
            return False
        self._waiting.pop(name, None)
        if not self._waiting:
            self.problem = None
        return True

    def forget(self, name: str) -> None:
        """Drop a waiting write. `problem` stays until another write succeeds."""
        self._waiting.pop(name, None)

    def retry(self) -> bool:
        """Try all waiting writes, oldest first. Return whether only expendable ones are left."""
        self._last_try = time.monotonic()
        for name, write in list(self._waiting.items()):
            self.attempt(name, write)
        return self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether no write waits except expendable ones."""
        return not self._waiting.keys() - self._expendable

    def finish(self) -> None:
        """Try all waiting writes. Raises the OSError of the first write that fails and is not expendable."""
        for name, write in list(self._waiting.items()):
            if not self.attempt(name, write) and name not in self._expendable:
                write()

    @property
    def is_due(self) -> bool:
        """Whether a write waits and the last try was at least RETRY_SECONDS ago."""
        return self.problem is not None and time.monotonic() - self._last_try >= RETRY_SECONDS
