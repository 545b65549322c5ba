"""Reading ahead: a thread reads the windows of the next updates while the current update is computed.

The windows depend on the step alone, so a run sees the same windows with the thread and without it. The thread helps if
text comes from a disk; if the shards are in memory, a batch takes microseconds.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

NUM_AHEAD = 2
"""Number of updates read ahead: one more than needed, so that a slow read may take as long as two updates."""

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Results of `read(step)` for steps up to `last_step`, computed ahead on a thread.

    `close` waits for the thread to end; a later `get` starts another. If `read` raises an error, the `get` of its step
    raises it. A forked child, which does not inherit the thread, starts its own.
    """

    def __init__(self, read: Callable[[int], T], last_step: int) -> None:
        """Start nothing yet."""
        self._read = read
        self._last_step = last_step
        self._ahead: deque[tuple[int, Future[T]]] = deque()
        self._executor: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def get(self, step: int) -> T:
        """Return `read(step)`, and schedule the steps after it."""
        if self._process != os.getpid():
            self._process, self._executor = os.getpid(), None
            self._ahead.clear()
        if not self._ahead or self._ahead[0][0] != step:
            self._drop()
            self._ask(step)
        result = self._ahead.popleft()[1]
        following = self._ahead[-1][0] + 1 if self._ahead else step + 1
        for later in range(following, min(step + NUM_AHEAD, self._last_step) + 1):
            self._ask(later)
        return result.result()

    def close(self) -> None:
        """Stop reading ahead and wait for the thread."""
        self._drop()
        if self._executor is not None and self._process == os.getpid():
            self._executor.shutdown()
        self._executor = None

    def _ask(self, step: int) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tttkit-read-ahead")
        self._ahead.append((step, self._executor.submit(self._read, step)))

    def _drop(self) -> None:
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()
