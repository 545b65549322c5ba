"""Sliding-window attention whose cache can be an initial state: in hybrids, beside a memory, and with sinks.

`SlidingWindowAttention` caches rotated keys, which belong to one place of one text. Here the cache holds keys before
their rotation and counts the tokens of each row, so that training may pass it from window to window with the memories.

Shapes: B batch, L length, D width, H heads, d head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tttkit.models.layers import SequenceLayer, upcast
from tttkit.models.sinks import sinks_attended_twice
from tttkit.models.sliding_window import SlidingWindowAttention, attend_to_window, window_state

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState


class CarriedWindow(SlidingWindowAttention):
    """Attention over the current token, the `sliding_window` - 1 before it and sinks; (B, L, D) to (B, L, D)."""

    has_state = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.sink_logit: nn.Parameter | None
        logit = nn.Parameter(torch.empty(config.num_attention_heads)) if config.sink == "logit" else None
        self.register_parameter("sink_logit", logit)

    def reset_parameters(self) -> None:
        """Begin with a sink that counts as much as a token whose score is zero."""
        if self.sink_logit is not None:
            nn.init.zeros_(self.sink_logit)

    def initial_state(self, batch_size: int) -> LayerState:
        """Return an empty window: keys and values (B, H, W - 1, d), the number of tokens read (B), and no sinks yet."""
        return window_state(upcast(self.q_proj.weight), batch_size, self.config)

    def forward(
        self,
        y: Tensor,
        state: LayerState | None = None,
        position: int = 0,  # noqa: ARG002 - the state counts the tokens of each row
        last: int | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Attend to the segment and the window before it; see `SequenceLayer.forward`."""
        heads = [self._heads(projection(y)) for projection in (self.q_proj, self.k_proj, self.v_proj)]
        read, after = attend_to_window(*heads, config=self.config, state=state, logit=self.sink_logit)
        read = read.transpose(1, 2).flatten(2)
        return self.o_proj(read if last is None else read[:, -last:]), after

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the products with the keys and values of window and sinks."""
        sinks = sinks_attended_twice(length, self.window, self.config.num_sink_tokens)
        return super().multiply_adds_per_token(length) + self.config.hidden_size * sinks

    def state_bytes(self, batch_size: int, length: int = 0) -> int:
        """Return the bytes of the window of `batch_size` rows: the same after any number of tokens."""
        return SequenceLayer.state_bytes(self, batch_size, length)
