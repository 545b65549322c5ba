"""What `tttkit quality` lets models write."""

from __future__ import annotations

import dataclasses

from tttkit.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is written. Raises UsageError for values outside their range."""

    lengths: tuple[int, ...] = ()
    """Tokens of the prompts; empty for the usual ones."""
    num_prompts: int = 32
    max_tokens: int = 128
    """Tokens of every continuation."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.max_tokens < 12:
            raise UsageError(f"--max-tokens must be at least 12, got {self.max_tokens}", hint="loops need some length")
