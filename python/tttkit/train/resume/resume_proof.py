"""The proof of a resume: recomputed losses must equal, bit by bit, the losses logged before the run stopped."""

from __future__ import annotations

from typing import Any

_MAX_COMPARED = 10


class ResumeProof:
    """Compares the first recomputed losses with the losses logged after the training checkpoint."""

    def __init__(self, records: list[dict[str, Any]], step: int) -> None:
        """Take the records of metrics.jsonl and the step of the training checkpoint."""
        later = [record for record in records if record["step"] > step]
        self.num_lost = max((record["step"] for record in later), default=step) - step
        """Logged steps after the training checkpoint, which are computed again."""
        self.verified: bool | None = None
        """Whether all losses compared so far were equal; None before the first."""
        self._before = {record["step"]: record["loss"] for record in later[:_MAX_COMPARED] if "loss" in record}

    def forget(self) -> None:
        """Compare nothing: the run resumes with changed values, so its losses are other losses."""
        self._before.clear()

    def compare(self, step: int, loss: float) -> str | None:
        """Compare one loss. Return a message if it differs."""
        if step not in self._before:
            return None
        before = self._before.pop(step)
        if repr(float(before)) == repr(loss):  # "NaN" and "Infinity" are strings in metrics.jsonl
            self.verified = True
            return None
        self.verified = False
        self._before.clear()
        return f"the loss of step {step} was {before!r} before the run stopped and is {loss!r} now: not bit-identical"
