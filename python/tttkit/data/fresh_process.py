"""Time a function in a new process, whose memory and caches are as cold as those of a user's first call."""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    """The result of one call and its cost."""

    result: int
    seconds: float
    """Wall time."""
    cpu_seconds: float
    """CPU time of all threads of the process."""


def timed(function: Callable[[], int], package: str) -> Timed:
    """Call a function that can be pickled in a new process. `package` is imported before the clock starts."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _end_on_ctrl_c) as executor:
        return executor.submit(_timed, function, package).result()


def _end_on_ctrl_c() -> None:
    # The process that started this one says that it was interrupted; a second traceback would hide that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _timed(function: Callable[[], int], package: str) -> Timed:
    importlib.import_module(package)
    started, cpu = time.perf_counter(), time.process_time()
    result = function()
    return Timed(result=result, seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu)
