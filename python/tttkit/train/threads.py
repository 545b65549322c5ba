"""CPU threads of a run: chosen by a measurement when it starts, kept when it resumes, and watched while it trains.

The threads of a process wait for each other many times in a step. If other processes use the cores, one thread that
waits for a core stops all the others, and the run is several times as fast with fewer threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from tttkit.device import choose_num_threads, threads_of_environment
from tttkit.run.cores import CoreReading, available_cores, cores_used_by_others, read_cores
from tttkit.run.threads import ThreadChoice, thread_counts
from tttkit.train.update import is_out_of_memory

if TYPE_CHECKING:
    from tttkit.config.run import Config
    from tttkit.models import LanguageModel

KEPT = "as before"
_MIN_STEPS = 5
_MIN_SECONDS = 10.0
"""Minimum number of steps and seconds in each interval that the watch judges."""
_SLOW = 0.5
"""Share of the best throughput below which an interval is slow."""
_MIN_OTHERS = 0.5
"""Cores that other processes must use, and that our threads must lack, before the watch blames those processes."""


def choose_for_run(
    config: Config, model: LanguageModel, earlier: Mapping[str, Any] | None, before_step: Callable[[], None]
) -> ThreadChoice:
    """Set torch's number of threads for a run and return the choice.

    The first of these decides: `train.num_threads`, OMP_NUM_THREADS, the number recorded in `earlier` (metadata.json of
    a run that resumes), or a measurement with `model`, which must be on its device. `before_step` is called before each
    measured step and may raise. The measurement changes neither the model nor any random generator.
    """
    measured = _measured_earlier(earlier)
    kept = _num_threads_earlier(earlier)
    if config.train.num_threads is not None:
        choice = ThreadChoice(num_threads=config.train.num_threads, why="train.num_threads", tokens_per_second=measured)
    elif (given := threads_of_environment()) is not None:
        choice = ThreadChoice(num_threads=given.num_threads, why=given.why, tokens_per_second=measured)
    elif model.device.type != "cpu":
        choice = ThreadChoice(num_threads=available_cores(), why="all cores")
    elif kept is not None and kept <= available_cores():
        choice = ThreadChoice(num_threads=kept, why=KEPT, tokens_per_second=measured)
    else:
        return _measure(config, model, before_step)
    torch.set_num_threads(choice.num_threads)
    return choice


def choose_for_rank(config: Config, num_ranks_here: int) -> ThreadChoice:
    """Set torch's number of threads for one of several ranks on a machine, which share its cores, and return it."""
    if config.train.num_threads is not None:
        choice = ThreadChoice(num_threads=config.train.num_threads, why="train.num_threads", tokens_per_second={})
    elif (given := threads_of_environment()) is not None:
        choice = given
    else:
        number = max(1, available_cores() // num_ranks_here)
        choice = ThreadChoice(num_threads=number, why=f"cores shared by {num_ranks_here} ranks", tokens_per_second={})
    torch.set_num_threads(choice.num_threads)
    return choice


class ThreadWatch:
    """Warns once if other processes slow the run down because it has more threads than free cores."""

    def __init__(self, choice: ThreadChoice, *, tokens_per_step: int, run: str) -> None:
        """Start watching. `run` is the run directory, quoted for a command line."""
        self._choice = choice
        self._tokens_per_step = tokens_per_step
        self._run = run
        self._best = choice.tokens_per_second.get(choice.num_threads, 0.0)
        self._window: int | None = None
        self._reading: CoreReading | None = None
        self._seconds: list[float] = []
        self._is_done = False

    def observe(self, seconds: float, window: int) -> str | None:
        """Add the seconds of an update on windows of `window` tokens; return the warning if it is due."""
        if self._is_done:
            return None
        # another stage has another throughput
        if window != self._window:
            if self._window is not None:
                self._best = 0.0
            self._window, self._reading, self._seconds = window, read_cores(), []
            return None
        self._seconds.append(seconds)
        if (
            self._reading is None
            or len(self._seconds) < _MIN_STEPS
            or time.monotonic() - self._reading.seconds < _MIN_SECONDS
        ):
            return None
        speed, before, after = self._tokens_per_step / median(self._seconds), self._reading, read_cores()
        self._reading, self._seconds = after, []
        if after is None:
            return None
        message = self._judge(speed, cores_used_by_others(before, after))
        self._best = max(self._best, speed)
        self._is_done = message is not None
        return message

    def _judge(self, speed: float, others: float) -> str | None:
        """Return the warning, if any, for throughput `speed` while other processes use `others` cores."""
        threads, cores = self._choice.num_threads, len(os.sched_getaffinity(0))
        if speed >= _SLOW * self._best or min(others, others + threads - cores) < _MIN_OTHERS:
            return None
        text = (
            f"throughput fell from {self._best:,.0f} to {speed:,.0f} tokens/s while other processes use {others:.1f} "
            f"of {cores} cores"
        )
        expected = {count: self._expect(count, others, cores) for count in thread_counts(threads)[1:]}
        fewer = max(expected, key=lambda count: expected[count], default=None)
        if fewer is None or expected[fewer] <= speed:
            return text
        plural = "" if fewer == 1 else "s"
        return (
            f"{text}; {fewer} thread{plural} would give about {expected[fewer]:,.0f}: stop the run and continue it "
            f"with `tttkit resume {self._run} --threads {fewer}`"
        )

    def _expect(self, num_threads: int, others: float, cores: int) -> float:
        """Estimate the throughput with fewer threads from the measured speeds, or in proportion to the threads.

        The estimate gives every other process and each of our threads an equal share of the cores, at most one core.
        """
        alone = self._choice.tokens_per_second.get(num_threads, self._best * num_threads / self._choice.num_threads)
        # other processes want more cores than they get while our threads run
        num_others = max(1, round(others + 0.25))
        return alone * min(1.0, cores / (num_threads + num_others))


def _measure(config: Config, model: LanguageModel, before_step: Callable[[], None]) -> ThreadChoice:
    """Time forward and backward of one batch of random tokens, without changing gradients or random generators."""
    train = config.train
    shape = (train.batch_size, train.window + 1)
    ids = torch.randint(0, model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step() -> None:
        before_step()
        with torch.autocast("cpu", dtype=torch.bfloat16) if train.precision == "bf16" else nullcontext():
            loss = model(ids[:, :-1], targets=ids[:, 1:])
        torch.autograd.grad(loss, parameters, allow_unused=True)

    try:
        with torch.random.fork_rng(devices=[]):
            return choose_num_threads(step, tokens_per_step=train.batch_size * train.window)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # training reports the lack of memory, with a hint
    choice = ThreadChoice(num_threads=available_cores(), why="not measured: out of memory")
    torch.set_num_threads(choice.num_threads)
    return choice


def _num_threads_earlier(earlier: Mapping[str, Any] | None) -> int | None:
    """Return the recorded number of threads if the run has trained; before that it recorded torch's default."""
    if not earlier or not earlier.get("segments"):
        return None
    number = earlier.get("environment", {}).get("num_threads")
    return number if isinstance(number, int) and number >= 1 else None


def _measured_earlier(earlier: Mapping[str, Any] | None) -> Mapping[int, float]:
    recorded = (earlier or {}).get("threads")
    return ThreadChoice.from_dict(recorded).tokens_per_second if recorded else {}
