"""One block of a language model: an optional convolution, the sequence layer and the feed-forward layer.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from tttkit.models.layers import FLOAT_BYTES, PreConvolution, RMSNorm, SequenceLayer, SwiGLU, linear_weights
from tttkit.models.state import LayerState

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig

BlockFunction = Callable[..., tuple[Tensor, LayerState]]
"""`Block.compute`, or its compiled form."""


class Block(nn.Module):
    """A convolution (if `pre_conv` is set), the sequence layer and the feed-forward layer, each with a residual."""

    def __init__(self, config: ModelConfig, sequence_layer: SequenceLayer) -> None:
        super().__init__()
        if config.pre_conv:
            self.conv = PreConvolution(config.hidden_size, config.conv_kernel, config.rms_norm_eps)
        self.seq_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.seq_modeling_block = sequence_layer
        self.ffn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)
        self.config = config

    def forward(
        self,
        x: Tensor,
        state: LayerState | None = None,
        position: int = 0,
        last: int | None = None,
        function: BlockFunction | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Run `compute`, or `function` in its place: the compiled form that all blocks share.

        Hooks of the block run outside the compiled code, so they always fire, even when they are added later.
        """
        return (function or Block.compute)(self, x, state, position, last)

    def compute(
        self, x: Tensor, state: LayerState | None, position: int, last: int | None
    ) -> tuple[Tensor, LayerState]:
        """Map the residual stream (B, L, D) to (B, L, D), and return the state after it, empty if none was given.

        With `last`, return only the last positions, (B, last, D).
        """
        after: LayerState = {}
        if self.config.pre_conv:
            mixed, past = self.conv(x, None if state is None else state["past_conv"])
            x = x + mixed
            if state is not None:
                after["past_conv"] = past
        read, rest = self.seq_modeling_block(self.seq_norm(x), state, position, last)
        x = (x if last is None else x[:, -last:]) + read
        return x + self.mlp(self.ffn_norm(x)), {**after, **rest}

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text."""
        state = self.seq_modeling_block.initial_state(batch_size)
        if self.config.pre_conv:
            past = (batch_size, self.config.conv_kernel - 1, self.config.hidden_size)
            state["past_conv"] = self.seq_norm.weight.new_zeros(past)
        return state

    def decayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the sequence and feed-forward layers that weight decay applies to."""
        yield from self.seq_modeling_block.decayed_parameters()
        yield from linear_weights(self.mlp)

    def flops_per_token(self, length: int) -> float:
        """Return the floating-point operations of forward and backward per token, without norms and convolutions."""
        feed_forward = sum(weight.numel() for weight in linear_weights(self.mlp))
        return self.seq_modeling_block.flops_per_token(length) + 6.0 * feed_forward

    def state_bytes(self, batch_size: int, length: int) -> int:
        """Return the bytes of the state of `batch_size` rows after `length` tokens."""
        size = self.seq_modeling_block.state_bytes(batch_size, length)
        if self.config.pre_conv:
            past = batch_size * (self.config.conv_kernel - 1) * self.config.hidden_size
            size += past * self.seq_norm.weight.element_size()
        return size

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients, in bytes per token."""
        return self.seq_modeling_block.bytes_per_token() + FLOAT_BYTES * 3 * self.config.intermediate_size
