"""Causal attention with rotary positions: the full-attention baseline, and the base of the sliding-window baseline.

Shapes: B batch, L length, n cached tokens, D width, H heads, d head width. Positions count from the start of the text;
rotary positions (Su et al., arXiv 2104.09864) depend on distances between tokens only, so any length works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.layers import SequenceLayer, rotary_tables, rotate, upcast

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState


class CausalAttention(SequenceLayer):
    """Multi-head attention over all earlier tokens and the current one; its state is the cache of keys and values."""

    sees_whole_past = True
    window: int | None = None
    """Tokens that one token attends to, itself included; None means all."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def initial_state(self, batch_size: int) -> LayerState:
        """Return an empty cache: keys, already rotated, and values, each (B, H, 0, d)."""
        shape = (batch_size, self.config.num_attention_heads, 0, self.config.head_dim)
        return {name: self.q_proj.weight.new_zeros(shape) for name in ("keys", "values")}

    def forward(
        self, y: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Attend to the segment and the cached tokens; see `SequenceLayer.forward`."""
        querying = y if last is None else y[:, -last:]
        queries = self._heads(self.q_proj(querying))
        keys, values = self._heads(self.k_proj(y)), self._heads(self.v_proj(y))
        positions = torch.arange(position, position + y.shape[1], device=y.device)
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta)
        length = queries.shape[2]
        queries = rotate(upcast(queries), cos[-length:], sin[-length:]).to(values.dtype)
        keys = rotate(upcast(keys), cos, sin).to(values.dtype)
        after: LayerState = {}
        if state is not None:
            keys = torch.cat((state["keys"].to(keys.dtype), keys), dim=2)
            values = torch.cat((state["values"].to(values.dtype), values), dim=2)
            first = 0 if self.window is None else max(0, keys.shape[2] - self.window + 1)
            after = {"keys": keys[:, :, first:], "values": values[:, :, first:]}
        read = self._attend(queries, keys, values)
        return self.o_proj(read.transpose(1, 2).flatten(2)), after

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the products with keys and with values: D times the tokens that one token attends to on average."""
        return self.config.hidden_size * attended_twice(length, self.window)

    def state_bytes(self, batch_size: int, length: int = 0) -> int:
        """Return the bytes of the cache of `batch_size` rows after `length` tokens."""
        num_cached = length if self.window is None else min(length, self.window - 1)
        return 2 * batch_size * num_cached * self.config.hidden_size * self.q_proj.weight.element_size()

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.config.num_attention_heads, -1).transpose(1, 2)  # (B, H, L, d)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from the last L of the n + L tokens, and return (B, H, L, d)."""
        length, total = queries.shape[2], keys.shape[2]
        narrow = self.window is not None and total > self.window
        if length == total and not narrow:
            return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        positions = torch.arange(total - length, total, device=queries.device)[:, None]
        distance = positions - torch.arange(total, device=queries.device)
        visible = distance >= 0
        if self.window is not None:
            visible &= distance < self.window
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)


def attended_twice(length: int, window: int | None) -> int:
    """Return twice the number of tokens that a token of a text of `length` tokens attends to on average.

    It is half the text, or less if a window bounds it: the tokens before the window is full count half of it.
    """
    if window is None or length <= window:
        return length
    return 2 * window - window * window // length
