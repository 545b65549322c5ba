"""Signals as requests that the trainer answers at its next safe point.

A thread reads the signals from a pipe, so that the second signal and the grace period also work while the main thread
is in a long native call, such as the first compilation.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from tttkit.errors import PreemptedError

T = TypeVar("T")
GRACE_SECONDS = 10.0
_EXIT_CALL_SECONDS = 1.0
"""Part of the grace period that is reserved for `before_leaving` and `announce_exit`."""
_EXIT_SECONDS = 0.5
"""Part of the grace period that is reserved for the end of the process on a busy machine."""
_STOP = (signal.SIGTERM, signal.SIGINT)


class StopRequestedError(BaseException):
    """Raised at a safe point after a signal asked to stop. Like KeyboardInterrupt, it is not an error."""


class StopSignals:
    """While entered, SIGTERM and SIGINT ask to stop, SIGUSR1 asks for a save, and SIGHUP is ignored.

    A second SIGTERM or SIGINT ends the process at once with exit code 128 + its number. A process that still runs
    `grace_seconds` after the first signal exits with the code of a preempted run. Files on disk are always complete.
    Outside the main thread, where Python allows no handlers, this does nothing.
    """

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS, interrupt: bool = False) -> None:
        """Begin without a request. With `interrupt`, the first stop signal raises StopRequestedError at once."""
        self._interrupt = interrupt
        self.requested: str | None = None
        """Name of the first SIGTERM or SIGINT, once it has come."""
        self.before_leaving: Callable[[], None] | None = None
        """Called in another thread when the grace period ends, to record the end of the run."""
        self.announce_exit: Callable[[], None] | None = None
        """Called in another thread when the grace period ends, to tell the user, since no exception is raised."""
        self._grace_seconds = grace_seconds
        self._save_requested = False
        self._previous: dict[signal.Signals, Any] = {}
        self._writer: int | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Install the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return self
        reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._watch, args=(reader,), daemon=True, name="signals")
        self._thread.start()
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*_STOP, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._handle)
        self._previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._writer is not None and self._thread is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._writer)
            self._thread.join()
            self._writer = self._thread = None

    def poll(self) -> None:
        """Raise StopRequestedError if a signal has come. Called at every safe point."""
        if self.requested is not None:
            raise StopRequestedError(self.requested)

    def take_save_request(self) -> bool:
        """Return whether SIGUSR1 has come since the last call."""
        requested, self._save_requested = self._save_requested, False
        return requested

    def _handle(self, number: int, _frame: object) -> None:
        """Raise StopRequestedError if asked to. Without a handler, the signal number would not reach the pipe."""
        if self._interrupt and number in _STOP:
            self._interrupt = False
            raise StopRequestedError(signal.Signals(number).name)

    def _watch(self, reader: int) -> None:
        deadline = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([reader], [], [], left)[0]:
                self._leave()
            numbers = os.read(reader, 64)
            if not numbers:  # the other end was closed by `__exit__`
                os.close(reader)
                return
            for number in numbers:
                if number == signal.SIGUSR1:
                    self._save_requested = True
                elif number in _STOP and self.requested is not None:
                    os._exit(128 + number)
                elif number in _STOP:
                    self.requested = signal.Signals(number).name
                    left = self._grace_seconds - _EXIT_CALL_SECONDS - _EXIT_SECONDS
                    deadline = time.monotonic() + max(left, self._grace_seconds / 2)

    def _leave(self) -> None:
        """End the process even if a disk or terminal hangs: the calls run in their own threads for at most a second."""
        calls = [call for call in (self.before_leaving, self.announce_exit) if call is not None]
        threads = [threading.Thread(target=_attempt, args=(call,), daemon=True) for call in calls]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _EXIT_CALL_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        os._exit(PreemptedError.exit_code)


def within(seconds: float, call: Callable[[], T]) -> T | None:
    """Return the result of `call`; None if it raises an exception or takes longer than `seconds`."""
    results: list[T] = []
    thread = threading.Thread(target=_attempt, args=(lambda: results.append(call()),), daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else None


def _attempt(call: Callable[[], None]) -> None:
    with suppress(Exception):
        call()
