"""The stages of a run, each with its first update and its window length. They depend on the configuration alone.

Every update reads the same number of tokens, so a share of the tokens is a share of the updates, and learning rate,
evaluations and `tokens_seen` do not depend on the stages.
"""

from __future__ import annotations

import dataclasses
import itertools

from tttkit.config.run import StageConfig, TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """The updates from `first_step` up to the next stage."""

    first_step: int
    """First update, from 1."""
    window: int
    """Training window in tokens."""
    num_windows: int
    """Windows of one update."""


def stages_of(config: TrainConfig) -> list[Stage]:
    """Return the stages of a run in order, without those too short for an update; one stage if none is configured."""
    configured = config.stages or [StageConfig(share=1.0, window=config.window)]
    ends = itertools.accumulate(stage.share for stage in configured)
    firsts = [1, *(1 + round(end * config.max_steps) for end in ends)]
    num_tokens = config.tokens_per_step
    stages = [
        Stage(first_step=first, window=stage.window, num_windows=num_tokens // stage.window)
        for stage, first in zip(configured, firsts, strict=False)
    ]
    lasting = [stage for stage, following in zip(stages, firsts[1:], strict=True) if stage.first_step < following]
    return lasting or stages[:1]


def stage_index(stages: list[Stage], step: int) -> int:
    """Return the index of the stage to which update `step` (from 1) belongs."""
    return max(0, sum(stage.first_step <= step for stage in stages) - 1)
