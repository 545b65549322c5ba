"""What changes from step to step beside weights and optimizer, and when its numbers say that the run diverges."""

from __future__ import annotations

import dataclasses

MAX_SKIPPED_IN_A_ROW = 3
RECENT_STEPS = 1000
MAX_RECENTLY_SKIPPED = RECENT_STEPS // 100


@dataclasses.dataclass(kw_only=True)
class Progress:
    """Saved with every state, so that a resumed run goes on as if it had never stopped."""

    step: int = 0
    evaluated: list[int] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    """Sum of the losses of the steps since the last evaluation."""
    num_losses: int = 0
    num_skipped: int = 0
    """Updates left out because loss, gradient or carried fast weights were not finite."""
    num_skipped_in_a_row: int = 0
    recently_skipped: list[int] = dataclasses.field(default_factory=list)
    """Those of the last 1,000 steps that were skipped."""
    num_rollbacks: int = 0
    lr_scale: float = 1.0
    """What the scheduled learning rate is multiplied by; halved by a rollback."""
    micro_batch: int | None = None
    """Windows that go through the model at once, where memory holds fewer than a batch."""

    def count(self, step: int, loss: float, *, applied: bool) -> None:
        """Count the update of a step."""
        if applied:
            self.num_skipped_in_a_row = 0
            self.loss_sum += loss
            self.num_losses += 1
        else:
            self.num_skipped += 1
            self.num_skipped_in_a_row += 1
            self.recently_skipped.append(step)
        self.recently_skipped = [each for each in self.recently_skipped if each > step - RECENT_STEPS]

    def divergence(self) -> str | None:
        """Why the run cannot go on like this; None when it can."""
        what = "loss, gradients or fast weights were not finite in"
        if self.num_skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            return f"{what} {self.num_skipped_in_a_row} updates in a row, to {self.step}"
        if len(self.recently_skipped) > MAX_RECENTLY_SKIPPED:
            return f"{what} {len(self.recently_skipped)} of the last {RECENT_STEPS} updates, to {self.step}"
        return None
