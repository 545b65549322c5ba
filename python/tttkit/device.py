"""Find and prepare the device to compute on, and choose the number of CPU threads by a measurement."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from tttkit.errors import UsageError
from tttkit.run.cores import available_cores
from tttkit.run.threads import MEASURED, ThreadChoice, thread_counts

# from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1
_VARIABLE = "OMP_NUM_THREADS"
_ROUND_SECONDS = 1.5
"""Seconds after which no new round of the measurement begins."""
_SLOW_STEP = 5.0
"""A first step that takes longer, in seconds, is not repeated."""
_LONGEST = 10.0
"""Maximum seconds of the first round. Then it skips the smallest numbers of threads, unless fewer were faster."""
_MAX_ROUNDS = 40
_NOISE = 0.03
"""Medians that differ by less than this share count as equal."""


def find_device(name: str | None) -> str:
    """Return `name` if torch can use that device; for None, return the GPU if there is one, else the CPU.

    This function changes no settings; `prepare_device` does. Raises UsageError.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device `{name}`", hint="cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return name
    if device.type != "cuda":
        raise UsageError(f"device `{name}` cannot be used", hint="cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise UsageError(f"device `{name}` was asked for, but torch sees no GPU", hint="--device cpu")
    number, count = device.index or 0, torch.cuda.device_count()
    if number >= count:
        raise UsageError(f"device `{name}` was asked for, but torch sees {count} GPU{'s' * (count > 1)}", hint="cuda:0")
    return name


def prepare_device(device: str, *, exact: bool = False) -> None:
    """Make a GPU torch's current one, where kernels and graphs run by default, and set the precision of its products.

    Products of float32 are rounded to tf32, which is several times as fast, unless they must be `exact`. A CPU needs
    `prepare_cpu` only.
    """
    chosen = torch.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen.index or 0)
        torch.set_float32_matmul_precision("highest" if exact else "high")


def prepare_cpu(num_threads: int | None = None) -> None:
    """Set the number of threads, flush denormals to zero, and let the C library keep freed memory.

    Without `num_threads` torch keeps its own number, at most `available_cores`, or OMP_NUM_THREADS. Saturated
    logits give denormals, which are twenty times as slow on a CPU. By default, glibc gets each array above 32 MB from
    the system and returns it when it is freed, and the system clears each page again. A training step with GPT-2's
    vocabulary does that about ten times with 200 MB, so freed memory is kept and reused. Neither setting changes a
    result that is not denormal. A C library other than glibc stays as it is.
    """
    if num_threads is None and _VARIABLE not in os.environ and torch.get_num_threads() > available_cores():
        num_threads = available_cores()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def threads_of_environment() -> ThreadChoice | None:
    """Return the number that OMP_NUM_THREADS gives; None if it is not set, or if OpenMP ignores it (`0`, `abc`)."""
    first = os.environ.get(_VARIABLE, "").split(",")[0].strip()  # the others are for nested parallel regions
    if not first.isdecimal() or int(first) < 1:
        return None
    return ThreadChoice(num_threads=torch.get_num_threads(), why=_VARIABLE)


def choose_num_threads(
    step: Callable[[], object],
    *,
    tokens_per_step: int,
    counts: Sequence[int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ThreadChoice:
    """Time `step` with several numbers of threads, interleaved for a second or two, and set torch to the fastest.

    `step` computes `tokens_per_step` tokens in the same way as the caller's work. It must not change anything that the
    work reads, including random generators. If medians are equal within the noise, the largest number wins. `counts`
    are the numbers to compare, in descending order (default: `thread_counts` of the available cores).
    """
    counts = counts or thread_counts(available_cores())
    if len(counts) == 1:
        torch.set_num_threads(counts[0])
        return ThreadChoice(num_threads=counts[0], why="one core available")
    torch.set_num_threads(counts[0])
    # the first step allocates and warms up
    first = _seconds(step, clock)
    seconds = _measure(step, counts, clock, first=first if first > _SLOW_STEP else None)
    medians = {count: median(values) for count, values in seconds.items()}
    fastest = min(medians.values())
    chosen = max(count for count, value in medians.items() if value <= fastest * (1 + _NOISE))
    torch.set_num_threads(chosen)
    speeds = {count: tokens_per_step / value for count, value in medians.items()}
    return ThreadChoice(num_threads=chosen, why=MEASURED, tokens_per_second=speeds)


def _measure(
    step: Callable[[], object], counts: Sequence[int], clock: Callable[[], float], *, first: float | None
) -> dict[int, list[float]]:
    """Return the seconds of each step by number of threads; each round times every number once.

    `first` is the time in seconds of a step with the largest number, if it is known.
    """
    started = clock()
    seconds = {} if first is None else {counts[0]: [first]}
    for count in counts[len(seconds) :]:
        times = [values[0] for values in seconds.values()]
        # half the threads take at most twice the time, and may even be faster if other processes run
        if len(times) > 1 and times[-1] >= times[-2] and clock() - started + 2 * times[-1] > _LONGEST:
            break
        torch.set_num_threads(count)
        seconds[count] = [_seconds(step, clock)]
    # numbers that are much slower in the first round are not measured again
    fastest = min(times[0] for times in seconds.values())
    close = [count for count, times in seconds.items() if times[0] <= 3 * fastest]
    while clock() - started < _ROUND_SECONDS and len(seconds[close[0]]) < _MAX_ROUNDS:
        for count in close:
            torch.set_num_threads(count)
            seconds[count].append(_seconds(step, clock))
    return seconds


def _seconds(step: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    step()
    return clock() - started
