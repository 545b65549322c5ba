"""The rule that ends a run early. It uses selection_ppl, the perplexity at 1xW over many windows (docs/protocol.md)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tttkit.config.run import EarlyStoppingConfig


@dataclasses.dataclass
class EarlyStopping:
    """Tracks the best value and the number of evaluations without an improvement of at least `min_delta`."""

    config: EarlyStoppingConfig
    max_steps: int
    best: float = math.inf
    """Best value so far, by any margin."""
    best_checkpoint: int | None = None
    """Index of the evaluation with the best value."""
    reference: float = math.inf
    """Value that the next improvement is measured from."""
    num_waiting: int = 0
    """Evaluations since the last improvement."""

    def update(self, value: float, *, checkpoint: int) -> bool:
        """Record the value of evaluation `checkpoint`. Return whether it is the best so far, by any margin."""
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
        """Return whether patience has run out and at least `min_steps_ratio` of the run is done."""
        old_enough = step >= self.config.min_steps_ratio * self.max_steps
        return self.config.enabled and old_enough and self.num_waiting >= self.config.patience

    def forget_best(self) -> None:
        """Forget the best value, whose model is gone, so that the next evaluation gives another one."""
        self.best, self.best_checkpoint = math.inf, None

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON, None for a value that is not known yet."""
        return {
            "best": self.best if self.best_checkpoint is not None else None,
            "best_checkpoint": self.best_checkpoint,
            "reference": self.reference if math.isfinite(self.reference) else None,
            "num_waiting": self.num_waiting,
            "patience": self.config.patience,
        }

    def load(self, values: dict[str, Any]) -> None:
        """Restore what `to_dict` returned."""
        self.best = math.inf if values["best"] is None else float(values["best"])
        self.best_checkpoint = values["best_checkpoint"]
        self.reference = math.inf if values["reference"] is None else float(values["reference"])
        self.num_waiting = int(values["num_waiting"])

    def _improves(self, value: float) -> bool:
        if not math.isfinite(self.reference):
            return True
        delta = self.config.min_delta
        least = float(delta[:-1]) / 100 * self.reference if delta.endswith("%") else float(delta)
        return value < self.reference and value <= self.reference - least
