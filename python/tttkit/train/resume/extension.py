"""A run that goes on for more steps than planned: the schedule that it follows, and the step that it continues from."""

from __future__ import annotations

import dataclasses
from typing import Any

from tttkit.config.run import Config, OptimizerConfig, build_config
from tttkit.errors import UsageError
from tttkit.run.saved import ENDED
from tttkit.train.schedule import learning_rate, stable_end, warmup_steps

_LONGER, _RATE = "train.max_steps", "optimizer.learning_rate"
_CONTINUED = frozenset({"optimizer.continued_at", "optimizer.continued_rate"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extension:
    """How a run resumes: with which configuration, and from where."""

    config: Config
    changed: frozenset[str] = frozenset()
    """Further keys that change because of those that may change."""
    at_most: int | None = None
    """The last step to continue from; None if the run continues from where it is."""
    message: str | None = None
    """What happens to the learning rate, if the run begins a new cosine."""


def extend(old: dict[str, Any] | None, config: Config, may_change: frozenset[str]) -> Extension:
    """Return how a run resumes whose metadata.json holds `old`, if the keys `may_change` may differ from it.

    A `wsd` run with more steps keeps the steps of its warm-up and continues from the end of its stable part, so that it
    equals a run that was planned with these steps. A `cosine` run that has ended begins a new cosine at its last rate.
    Raises UsageError if that rate is zero.
    """
    if not old or "data" not in old:
        return Extension(config=config)
    before = build_config(old["config"])
    if before.optimizer.schedule != config.optimizer.schedule:
        return Extension(config=config)
    if config.optimizer.schedule == "wsd":
        extension = _extend_stable_part(before, config)
        return extension if _LONGER in may_change else dataclasses.replace(extension, changed=frozenset())
    if _LONGER in may_change and old.get("result", {}).get("reason") in ENDED:
        return _continue_cosine(before, config, int(old["result"]["step"]), may_change)
    return _keep_cosine(before, config, may_change)


def _extend_stable_part(before: Config, config: Config) -> Extension:
    planned, asked = before.train.max_steps, config.train.max_steps
    changed: frozenset[str] = frozenset()
    if config.optimizer.warmup_steps is None and config.optimizer.warmup_ratio == before.optimizer.warmup_ratio:
        steps = before.optimizer.warmup_steps
        if steps is None and asked != planned:
            steps = warmup_steps(before.optimizer, max_steps=planned)
            changed = frozenset({"optimizer.warmup_steps"})
        config = _with(config, warmup_steps=steps)
    at_most = stable_end(before.optimizer, max_steps=planned) if asked > planned else None
    return Extension(config=config, changed=changed, at_most=at_most)


def _keep_cosine(before: Config, config: Config, may_change: frozenset[str]) -> Extension:
    """Return the extension that keeps a cosine that was continued before, except for another peak rate."""
    asked, recorded = _continued(config.optimizer), _continued(before.optimizer)
    if asked not in ((None, None), recorded):
        return Extension(config=config)
    if config.optimizer.learning_rate != before.optimizer.learning_rate:
        # another peak rate is followed as it is asked for, by the usual cosine
        changed = _CONTINUED if _RATE in may_change else frozenset()
        return Extension(config=_with(config, continued_at=None, continued_rate=None), changed=changed)
    return Extension(config=_with(config, continued_at=recorded[0], continued_rate=recorded[1]))


def _continue_cosine(before: Config, config: Config, step: int, may_change: frozenset[str]) -> Extension:
    """Return the extension of a run that ended at `step`: a new cosine if it asks for more steps at the same peak."""
    kept = _keep_cosine(before, config, may_change)
    planned, end = before.train.max_steps, config.train.max_steps
    if end <= planned or _continued(kept.config.optimizer) != _continued(before.optimizer) or kept.changed:
        return kept
    rate = learning_rate(step, before.optimizer, max_steps=planned)
    if rate <= 0:
        raise UsageError(
            f"the run ended at a learning rate of 0, so a new cosine from there to step {end} would learn nothing",
            hint="give another --learning-rate, or start another run with --init-from",
        )
    config = _with(config, continued_at=step, continued_rate=rate)
    last = learning_rate(end, config.optimizer, max_steps=end)
    message = (
        f"the run had ended at step {step}: the learning rate follows a new cosine from {rate:.3g}, its last value, to "
        f"{last:.3g} at step {end}"
    )
    return Extension(config=config, changed=_CONTINUED, message=message)


def _continued(optimizer: OptimizerConfig) -> tuple[int | None, float | None]:
    return optimizer.continued_at, optimizer.continued_rate


def _with(config: Config, **values: Any) -> Config:
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, **values))
