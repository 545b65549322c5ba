"""When a run may end early. Goes by selection_ppl, the perplexity at 1xW over many windows (evaluation.md)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tttkit.config.run import EarlyStoppingConfig


@dataclasses.dataclass
class EarlyStopping:
    """Best value so far (by any margin) and how many evaluations brought no improvement of `min_delta`."""

    config: EarlyStoppingConfig
    max_steps: int
    best: float = math.inf
    best_checkpoint: int | None = None
    reference: float = math.inf
    num_waiting: int = 0

    def update(self, value: float, *, checkpoint: int) -> bool:
        """Record an evaluation; True when it is the best so far, by any margin."""
        if math.isfinite(value) and self._improves(value):
            self.reference = value
            self.num_waiting = 0
        else:
            self.num_waiting += 1
        is_best = math.isfinite(value) and value < self.best
        if is_best:
            self.best = value
            self.best_checkpoint = checkpoint
        return is_best

    def should_stop(self, step: int) -> bool:
        """Whether patience has run out, and the run is old enough to be judged."""
        old_enough = step >= self.config.min_steps_ratio * self.max_steps
        return self.config.enabled and old_enough and self.num_waiting >= self.config.patience

    def to_dict(self) -> dict[str, Any]:
        """State for JSON; `None` before the first evaluation."""
        return {
            "best": self.best if self.best_checkpoint is not None else None,
            "best_checkpoint": self.best_checkpoint,
            "reference": self.reference if math.isfinite(self.reference) else None,
            "num_waiting": self.num_waiting,
            "patience": self.config.patience,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `to_dict` gave."""
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.best_checkpoint = state["best_checkpoint"]
        self.reference = math.inf if state["reference"] is None else float(state["reference"])
        self.num_waiting = int(state["num_waiting"])

    def _improves(self, value: float) -> bool:
        if not math.isfinite(self.reference):
            return True
        delta = self.config.min_delta
        share = float(delta[:-1]) / 100 * self.reference if delta.endswith("%") else float(delta)
        return value < self.reference and value <= self.reference - share
