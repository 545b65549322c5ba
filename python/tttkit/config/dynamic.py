"""Settings of the context `dynamic`, in which the weights learn from the text that was scored (docs/protocol.md)."""

from __future__ import annotations

import dataclasses
import math
import re

from tttkit.config.limits import MOST_TOKENS
from tttkit.errors import UsageError

OPTIMIZERS = ("sgd", "rms")
RESETS = ("sequence", "document")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicConfig:
    """How the weights learn in the context `dynamic`. The evaluation records it. Raises UsageError for a bad value."""

    learning_rate: float
    """Learning rate of the step after each segment."""
    decay: float = 0.0
    """Share by which each step pulls the weights towards their start, 0 … 1."""
    optimizer: str = "sgd"
    """Rule of the step: sgd, or rms, which divides by the RMS of each weight's gradients on the training split."""
    parameters: str = "all"
    """Weights that learn: all, norms, mlp:last:N, or a regular expression that is searched in their names."""
    segment: int = 64
    """Tokens that are scored before each step."""
    reset: str = "sequence"
    """Where the weights go back to their start: at each sequence, or also at each document inside it."""

    def __post_init__(self) -> None:
        """Refuse values that have no meaning."""
        if not math.isfinite(self.learning_rate) or self.learning_rate < 0:
            raise UsageError(f"the learning rate of `dynamic` must be at least 0, got {self.learning_rate}")
        if not 0 <= self.decay <= 1:
            raise UsageError(f"the decay of `dynamic` must be in 0 … 1, got {self.decay}")
        if not 1 <= self.segment <= MOST_TOKENS:
            raise UsageError(f"the segment of `dynamic` must be in 1 … {MOST_TOKENS} tokens, got {self.segment}")
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS), ("reset", self.reset, RESETS)
        ):  # fmt: skip
            if value not in known:
                raise UsageError(f"the {name} of `dynamic` must be one of {', '.join(known)}, got `{value}`")
        try:
            re.compile(self.parameters)
        except re.error as error:
            raise UsageError(
                f"the parameters of `dynamic` must be a regular expression, got `{self.parameters}`: {error}",
                hint="known words: all, norms, mlp:last:3",
            ) from error

    def __str__(self) -> str:
        """Return the settings in one line, for tables."""
        return (
            f"{self.optimizer} on {self.parameters}, rate {self.learning_rate:g}, decay {self.decay:g}, "
            f"segments of {self.segment}, reset at each {self.reset}"
        )
