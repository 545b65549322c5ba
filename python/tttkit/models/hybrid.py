"""Sliding-window attention between the memories of a hybrid (`model.pattern`): its cache can be an initial state.

`SlidingWindowAttention` caches rotated keys, which belong to one place of one text. Here the cache holds keys before
their rotation and counts the tokens of each row, so that training may pass it from window to window with the memories.

Shapes: B batch, L length, D width, H heads, d head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from tttkit.models.layers import SequenceLayer, upcast
from tttkit.models.sliding_window import SlidingWindowAttention, attend_to_window, window_state

if TYPE_CHECKING:
    from tttkit.models.state import LayerState


class CarriedWindow(SlidingWindowAttention):
    """Attention over the current token and the `sliding_window` - 1 before it; (B, L, D) to (B, L, D)."""

    has_state = True

    def initial_state(self, batch_size: int) -> LayerState:
        """Return an empty window: keys and values (B, H, W - 1, d), and the number of tokens read (B)."""
        config = self.config
        heads, width = config.num_attention_heads, config.head_dim
        return window_state(upcast(self.q_proj.weight), batch_size, heads, width, self.window)

    def forward(
        self,
        y: Tensor,
        state: LayerState | None = None,
        position: int = 0,  # noqa: ARG002 - the state counts the tokens of each row
        last: int | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Attend to the segment and the window before it; see `SequenceLayer.forward`."""
        heads = [self._heads(projection(y)) for projection in (self.q_proj, self.k_proj, self.v_proj)]
        read, after = attend_to_window(*heads, window=self.window, theta=self.config.rope_theta, state=state)
        read = read.transpose(1, 2).flatten(2)
        return self.o_proj(read if last is None else read[:, -last:]), after

    def state_bytes(self, batch_size: int, length: int = 0) -> int:
        """Return the bytes of the window of `batch_size` rows: the same after any number of tokens."""
        return SequenceLayer.state_bytes(self, batch_size, length)
