"""Counters that change from step to step, and the rule that detects divergence from them."""

from __future__ import annotations

import dataclasses

MAX_SKIPPED_IN_A_ROW = 3
RECENT_STEPS = 1000
MAX_RECENTLY_SKIPPED = RECENT_STEPS // 100


@dataclasses.dataclass(kw_only=True)
class TrainingProgress:
    """The counters of a run. Training checkpoints hold them, so that a resumed run continues as if never stopped."""

    step: int = 0
    """Updates so far, including skipped updates."""
    tokens_seen: int = 0
    """Tokens of these updates. They are counted, because the size of an update may change when a run resumes."""
    evaluated: list[int] = dataclasses.field(default_factory=list)
    """Steps that have been evaluated."""
    loss_sum: float = 0.0
    """Sum of the losses of the steps since the last evaluation."""
    num_losses: int = 0
    """Number of losses in `loss_sum`."""
    num_skipped: int = 0
    """Updates skipped because loss, gradient or fast weights were not finite."""
    num_skipped_in_a_row: int = 0
    recently_skipped: list[int] = dataclasses.field(default_factory=list)
    """Skipped updates among the last RECENT_STEPS."""
    num_rollbacks: int = 0
    lr_scale: float = 1.0
    """Factor of the scheduled learning rate; a rollback halves it."""
    micro_batch: int | None = None
    """Windows that go through the model at once, if memory could not hold the usual number."""

    def advance(self, num_tokens: int) -> None:
        """Count an update over `num_tokens` tokens; `count` adds its result, which a GPU gives later."""
        self.step += 1
        self.tokens_seen += num_tokens

    def count(self, step: int, loss: float, *, applied: bool) -> None:
        """Count the result of update `step`, which was applied or skipped."""
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
        """Return why the run diverges, or None if it does not."""
        what = "loss, gradients or fast weights were not finite in"
        if self.num_skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            return f"{what} {self.num_skipped_in_a_row} updates in a row, up to step {self.step}"
        if len(self.recently_skipped) > MAX_RECENTLY_SKIPPED:
            return f"{what} {len(self.recently_skipped)} of the last {RECENT_STEPS} updates, up to step {self.step}"
        return None
