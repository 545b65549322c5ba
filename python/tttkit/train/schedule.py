"""Learning rate, evaluations and default saves by step. Pure functions of the step number."""

from __future__ import annotations

import math

from tttkit.config.run import OptimizerConfig


def learning_rate(step: int, config: OptimizerConfig, *, max_steps: int) -> float:
    """Return the learning rate of update `step` (1 … max_steps).

    It warms up linearly to the peak, then decays to `min_lr_ratio` of the peak: by a cosine, or linearly after the
    stable part of `wsd`. A run that ended and went on follows a second cosine, which begins at the last rate of the
    first. It depends on the update number alone, so neither accumulation nor the number of devices changes it.
    """
    if config.continued_at is not None and config.continued_rate is not None:
        return _cosine(step, config.continued_at, max_steps, config.continued_rate, config.min_lr_ratio)
    start = warmup_steps(config, max_steps=max_steps)
    if step <= start:
        return config.learning_rate * step / start
    if config.schedule == "wsd":
        floor = config.learning_rate * config.min_lr_ratio
        start = stable_end(config, max_steps=max_steps) or 0
        progress = max(0, step - start) / max(1, max_steps - start)
        return config.learning_rate + (floor - config.learning_rate) * progress
    return _cosine(step, start, max_steps, config.learning_rate, config.min_lr_ratio)


def _cosine(step: int, start: int, end: int, peak: float, share: float) -> float:
    """Return the rate of a cosine from `peak` at step `start` to `share` of it at step `end`; `peak` before it."""
    floor = peak * share
    progress = max(0, step - start) / max(1, end - start)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_steps(config: OptimizerConfig, *, max_steps: int) -> int:
    """Return the number of steps of the linear warm-up."""
    return round(config.warmup_ratio * max_steps) if config.warmup_steps is None else config.warmup_steps


def stable_end(config: OptimizerConfig, *, max_steps: int) -> int | None:
    """Return the last step at the peak rate of a `wsd` schedule, after which it decays; None for other schedules."""
    if config.schedule != "wsd":
        return None
    warmup = warmup_steps(config, max_steps=max_steps)
    return min(max_steps, max(warmup, max_steps - round(config.decay_ratio * max_steps)))


def evaluation_steps(max_steps: int, num_checkpoints: int) -> list[int]:
    """Return the steps at which to evaluate: evenly spaced with both ends, halves rounded up, without duplicates.

    A single evaluation is at the last step; for no evaluations the list is empty (docs/protocol.md).
    """
    if num_checkpoints == 0:
        return []
    if num_checkpoints == 1:
        return [max_steps]
    intervals = num_checkpoints - 1
    return sorted({(2 * index * max_steps + intervals) // (2 * intervals) for index in range(num_checkpoints)})


def default_save_every(max_steps: int) -> int:
    """Return the default number of steps between training checkpoints: a hundredth of the run, at least 50."""
    return max(50, max_steps // 100)
