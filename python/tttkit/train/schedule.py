"""What happens at which step: learning rate and evaluations. Pure functions of the step number."""

from __future__ import annotations

import math

from tttkit.config.run import OptimizerConfig


def learning_rate(step: int, config: OptimizerConfig, *, max_steps: int) -> float:
    """Learning rate of update `step` (1 … max_steps): linear warm-up to the peak, cosine to `min_lr_ratio` of it.

    Depends on the update number alone, so neither accumulation nor the number of devices changes it.
    """
    warmup_steps = round(config.warmup_ratio * max_steps)
    if step <= warmup_steps:
        return config.learning_rate * step / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    floor = config.learning_rate * config.min_lr_ratio
    return floor + (config.learning_rate - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def evaluation_steps(max_steps: int, num_checkpoints: int) -> list[int]:
    """Steps at which to evaluate, evenly spread with both ends, halves rounded up, duplicates removed (evaluation.md).

    One checkpoint: the last step only; none: an empty list.
    """
    if num_checkpoints == 0:
        return []
    if num_checkpoints == 1:
        return [max_steps]
    intervals = num_checkpoints - 1
    return sorted({(2 * index * max_steps + intervals) // (2 * intervals) for index in range(num_checkpoints)})


def default_save_every(max_steps: int) -> int:
    """Steps between resumable states: a hundredth of the run, at least 50."""
    return max(50, max_steps // 100)
