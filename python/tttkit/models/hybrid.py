"""Sliding-window attention between the memories of a hybrid (`model.pattern`): its cache can be an initial state.

`SlidingWindowAttention` caches rotated keys, which belong to one place of one text. Here the cache holds keys before
their rotation and counts the tokens of each row, so that training may pass it from window to window with the memories.

Shapes: B batch, L length, D width, H heads, d head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from tttkit.models.layers import SequenceLayer, upcast
from tttkit.models.sliding_window import attend_to_window, window_state
from tttkit.models.transformer import attended_twice

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState


class CarriedWindow(SequenceLayer):
    """Attention over the current token and the `sliding_window` - 1 before it; (B, L, D) to (B, L, D)."""

    has_state = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def initial_state(self, batch_size: int) -> LayerState:
        """Return an empty window: keys and values (B, H, W - 1, d), and the number of tokens read (B)."""
        config = self.config
        heads, width = config.num_attention_heads, config.head_dim
        return window_state(upcast(self.q_proj.weight), batch_size, heads, width, config.sliding_window)

    def forward(
        self,
        y: Tensor,
        state: LayerState | None = None,
        position: int = 0,  # noqa: ARG002 - the state counts the tokens of each row
        last: int | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Attend to the segment and the window before it; see `SequenceLayer.forward`."""
        heads = [self._heads(projection(y)) for projection in (self.q_proj, self.k_proj, self.v_proj)]
        config = self.config
        read, after = attend_to_window(*heads, window=config.sliding_window, theta=config.rope_theta, state=state)
        read = read.transpose(1, 2).flatten(2)
        return self.o_proj(read if last is None else read[:, -last:]), after

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the products with keys and with values: D times the tokens that one token attends to on average."""
        return self.config.hidden_size * attended_twice(length, self.config.sliding_window)

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.config.num_attention_heads, -1).transpose(1, 2)  # (B, H, L, d)
