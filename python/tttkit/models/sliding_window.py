"""Sliding-window attention: the baseline that sees the last W tokens in every layer, and whose cache never grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tttkit.models.transformer import CausalAttention

if TYPE_CHECKING:
    from tttkit.model_config import ModelConfig


class SlidingWindowAttention(CausalAttention):
    """Attention over the current token and the `sliding_window` - 1 before it; the cache holds those only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.window = config.sliding_window
