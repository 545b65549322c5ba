"""Sliding-window attention: the baseline whose layers attend to the last W tokens, and whose cache does not grow.

Shapes: B batch, H heads, L length, n cached tokens, d head width, N blocks of W tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tttkit.models.transformer import CausalAttention

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig

_MIN_WINDOWS = 8
"""Length, in windows, from which blocks are faster than a mask over all pairs. Measured on one CPU core with W=64, 12
heads, forward and backward: 0.9 times the speed of the mask at 4 windows, 4.2 times at 20. FlexAttention has no
backward on a CPU; its forward has 1.0 times the speed at 1 window and 3.4 times at 20, where blocks have 5.0."""


class SlidingWindowAttention(CausalAttention):
    """Attention over the current token and the `sliding_window` - 1 before it; the cache holds those only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.window: int = config.sliding_window

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend as `CausalAttention` does; cut a long text into blocks of W tokens, at a cost linear in its length.

        Each block attends to itself and to the block before it.
        """
        window, (batch, heads, length, head_dim) = self.window, queries.shape
        if keys.shape[2] <= _MIN_WINDOWS * window:
            return super()._attend(queries, keys, values)
        num_cached, num_blocks = keys.shape[2] - length, -(-length // window)
        missing = num_blocks * window - length
        queries = F.pad(queries, (0, 0, 0, missing)).view(batch, heads * num_blocks, window, head_dim)
        # each block gets the W keys before it: (B, H x N, 2 W, d)
        keys, values = (
            F.pad(x, (0, 0, window - num_cached, missing)).unfold(2, 2 * window, window).mT.flatten(1, 2)
            for x in (keys, values)
        )
        distance = torch.arange(window, 2 * window, device=queries.device)[:, None]
        distance = distance - torch.arange(2 * window, device=queries.device)
        visible = ((distance >= 0) & (distance < window)).repeat(num_blocks, 1, 1)
        # padding before the start of the text
        visible[0, :, : window - num_cached] = False
        read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible.repeat(heads, 1, 1))
        return read.view(batch, heads, -1, head_dim)[:, :, :length]
