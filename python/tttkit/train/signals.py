"""Signals become a request that the trainer heeds at its next safe point; the handler itself only sets a flag."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequestedError(Exception):
    """Raised at a safe point after a signal asked the run to stop. Internal to the trainer."""


class StopSignals:
    """While entered, SIGTERM and SIGINT ask to stop; a second one leaves at once with 128 + its number.

    SIGHUP is ignored: a lost terminal does not end a run. Outside the main thread, where Python allows no handlers,
    this does nothing.
    """

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self.requested: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
            self._previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def poll(self) -> None:
        """Raise StopRequestedError when a signal has come. Called wherever work may be left."""
        if self.requested is not None:
            raise StopRequestedError(self.requested)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested is not None:
            os._exit(128 + number)
        self.requested = signal.Signals(number).name
