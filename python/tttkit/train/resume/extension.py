"""A run that goes on for more steps than planned: the schedule that it follows, and the step that it continues from."""

from __future__ import annotations

import dataclasses
from typing import Any

from tttkit.config.run import Config, build_config
from tttkit.train.schedule import stable_end, warmup_steps


def extend(old: dict[str, Any] | None, config: Config) -> tuple[Config, frozenset[str], int | None]:
    """Return the configuration of a resumed run, the keys that this changes, and the last step to continue from.

    A `wsd` run with more steps keeps the steps of its warm-up and continues from the end of its stable part, so that it
    equals a run that was planned with these steps. The last value is None if the run continues from where it is.
    """
    if not old or "data" not in old:
        return config, frozenset(), None
    before = build_config(old["config"])
    if not before.optimizer.schedule == config.optimizer.schedule == "wsd":
        return config, frozenset(), None
    planned, asked = before.train.max_steps, config.train.max_steps
    changed: frozenset[str] = frozenset()
    if config.optimizer.warmup_steps is None and config.optimizer.warmup_ratio == before.optimizer.warmup_ratio:
        steps = before.optimizer.warmup_steps
        if steps is None and asked != planned:
            steps = warmup_steps(before.optimizer, max_steps=planned)
            changed = frozenset({"optimizer.warmup_steps"})
        config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, warmup_steps=steps))
    return config, changed, stable_end(before.optimizer, max_steps=planned) if asked > planned else None
