"""DeltaNet: a matrix as memory that every token corrects (Yang et al., arXiv 2406.06484).

Parameter names are those of flash-linear-attention, and initial values those of its models.

Shapes: B batch, L length, D width, Hk key heads, Hv value heads, dk and dv their widths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.layers import (
    RMSNorm,
    SequenceLayer,
    causal_convolution,
    convolution_history,
    depthwise,
    memory_norm,
    upcast,
)
from tttkit.models.operators import gated_delta_rule

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState

_CHUNK = 64
"""Tokens of a chunk of the operator, for the count of its arithmetic."""


class DeltaNet(SequenceLayer):
    """Short convolutions of queries, keys and values, the delta rule, and a norm per head, (B, L, D) to (B, L, D)."""

    has_state = True
    has_diagnostics = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.num_value_heads = config.num_attention_heads
        self.num_key_heads = config.num_key_heads or config.num_attention_heads
        self.key_head_dim, self.value_head_dim = config.memory_head_dims
        key_width, value_width = self.num_key_heads * self.key_head_dim, self.num_value_heads * self.value_head_dim
        self.q_proj = nn.Linear(width, key_width, bias=False)
        self.k_proj = nn.Linear(width, key_width, bias=False)
        self.v_proj = nn.Linear(width, value_width, bias=False)
        self.b_proj = nn.Linear(width, self.num_value_heads, bias=False)
        self.q_conv1d = depthwise(key_width, config.conv_kernel, bias=False)
        self.k_conv1d = depthwise(key_width, config.conv_kernel, bias=False)
        self.v_conv1d = depthwise(value_width, config.conv_kernel, bias=False)
        self.o_norm = RMSNorm(self.value_head_dim, config.rms_norm_eps)
        self.o_proj = nn.Linear(value_width, width, bias=False)

    def reset_parameters(self) -> None:
        """Draw the convolutions like the projections, N(0, initializer_range)."""
        for conv in (self.q_conv1d, self.k_conv1d, self.v_conv1d):
            nn.init.normal_(conv.weight, std=self.config.initializer_range)

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: an empty memory, and zeros as past inputs of the convolutions."""
        zeros = upcast(self.q_proj.weight).new_zeros
        past = self.config.conv_kernel - 1
        return {
            "memory": zeros(batch_size, self.num_value_heads, self.key_head_dim, self.value_head_dim),
            "past_q": zeros(batch_size, past, self.q_proj.out_features),
            "past_k": zeros(batch_size, past, self.k_proj.out_features),
            "past_v": zeros(batch_size, past, self.v_proj.out_features),
        }

    def forward(
        self,
        y: Tensor,
        state: LayerState | None = None,
        position: int = 0,  # noqa: ARG002 - the memory knows no positions
        last: int | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Correct the memory and read it; see `SequenceLayer.forward`."""
        after: LayerState = {}
        q = self._convolved("q", y, state, after, self.num_key_heads)
        k = self._convolved("k", y, state, after, self.num_key_heads)
        v = self._convolved("v", y, state, after, self.num_value_heads)
        rates = torch.sigmoid(upcast(self.b_proj(y)))
        before = None if state is None else state["memory"]
        read, memory = gated_delta_rule(q, k, v, rates, self._log_decay(y), initial_state=before)
        if state is not None:
            after["memory"] = memory
        if last is not None:
            y, read = y[:, -last:], read[:, -last:]
        return self.o_proj(self._output(read, y).flatten(2)), after

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the products of the operator in chunks of C tokens: 3 dk dv + (5 dk + 3 dv) C / 2 per value head."""
        key, value = self.key_head_dim, self.value_head_dim
        size = min(length, _CHUNK)
        return self.num_value_heads * (3 * key * value + (5 * key + 3 * value) * size // 2)

    def diagnostics(self, y: Tensor, before: LayerState | None, position: int, after: LayerState) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the norm of the memory."""
        return {"memory_norm": memory_norm(after["memory"])}

    def _log_decay(self, y: Tensor) -> Tensor | None:  # noqa: ARG002 - for the subclass
        """Return the log decay per token and value head, (B, L, Hv); None means no decay."""
        return None

    def _output(self, read: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002 - for the subclass
        """Return the normalised reads (B, L, Hv, dv)."""
        normed: Tensor = self.o_norm(read)
        return normed

    def _convolved(self, name: str, y: Tensor, state: LayerState | None, after: LayerState, heads: int) -> Tensor:
        """Return projection, convolution and SiLU, (B, L, heads, width); put the convolution's inputs into `after`."""
        conv = self.get_submodule(f"{name}_conv1d")
        assert isinstance(conv, nn.Conv1d)
        projected, past = self.get_submodule(f"{name}_proj")(y), None if state is None else state[f"past_{name}"]
        if state is not None:
            after[f"past_{name}"] = upcast(convolution_history(projected, conv, past))
        mixed = F.silu(causal_convolution(projected, conv, past))
        return torch.unflatten(mixed, -1, (heads, -1))
