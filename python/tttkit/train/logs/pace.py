"""Durations of steps, evaluations and saves: they decide when to save next and predict the end of the run."""

from __future__ import annotations

import time
from collections import deque
from statistics import median

from tttkit.config.run import TrainConfig
from tttkit.train.schedule import default_save_every

MAX_SAVING_SHARE = 0.02
"""Largest share of time spent saving; ignored if train.save_every is set."""


class Pace:
    """Medians of recent steps, evaluations and saves, in seconds."""

    def __init__(self, config: TrainConfig, schedule: list[int]) -> None:
        """Begin without measurements. `schedule` lists the steps at which to evaluate."""
        self.steps: deque[float] = deque(maxlen=200)
        self.evaluations: deque[float] = deque(maxlen=5)
        self.save_every = config.save_every or default_save_every(config.max_steps)
        self._max_steps = config.max_steps
        self._is_given = config.save_every is not None
        self._schedule = schedule
        self._saves: deque[float] = deque(maxlen=5)
        self._last_save = time.monotonic()

    @property
    def step_seconds(self) -> float:
        """Median seconds of the last 200 updates. Raises StatisticsError before the first."""
        return median(self.steps)

    def count_save(self, started: float) -> float:
        """Record a save that began at `started` (time.monotonic()) and ends now. Returns its seconds."""
        self._last_save = time.monotonic()
        self._saves.append(self._last_save - started)
        return self._saves[-1]

    def may_save(self, step: int) -> bool:
        """Return whether a save is due at `step`. By default saves take at most MAX_SAVING_SHARE of the time."""
        if step % self.save_every:
            return False
        if self._is_given or not self._saves:
            return True
        return time.monotonic() - self._last_save >= median(self._saves) / MAX_SAVING_SHARE

    def eta_seconds(self, step: int) -> float | None:
        """Return the expected seconds from `step` to the end, with evaluations and saves at their measured durations.

        Return None before the first update was measured.
        """
        if not self.steps:
            return None
        num_evaluations = sum(later > step for later in self._schedule)
        num_saves = self._max_steps // self.save_every - step // self.save_every
        evaluation, save = (median(times or (0.0,)) for times in (self.evaluations, self._saves))
        return (self._max_steps - step) * self.step_seconds + num_evaluations * evaluation + num_saves * save
