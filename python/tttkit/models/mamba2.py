"""Mamba-2: a state space memory with one decay per head and token (Dao and Gu, arXiv 2405.21060).

Parameter names are those of the authors' code; initial values are those of flash-linear-attention's models.

Shapes: B batch, L length, D width, H heads of width P, G groups, N state width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.layers import (
    FLOAT_BYTES,
    RMSNorm,
    SequenceLayer,
    causal_convolution,
    convolution_history,
    depthwise,
    gate_of_time_steps,
    memory_norm,
    softplus,
    upcast,
)
from tttkit.models.operators import mamba2_ssd

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState

_CHUNK = 64
"""Tokens of a chunk of the operator, for the count of its arithmetic."""
_EPS = 1e-5


class Mamba2(SequenceLayer):
    """One projection for everything, a short convolution, the memory and a gated norm, (B, L, D) to (B, L, D)."""

    has_state = True
    has_diagnostics = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        heads, groups = config.num_attention_heads, config.num_groups
        _, self.head_width = config.memory_head_dims
        self.inner_width = heads * self.head_width
        self.shared_width = groups * config.state_size
        mixed = self.inner_width + 2 * self.shared_width
        self.in_proj = nn.Linear(config.hidden_size, self.inner_width + mixed + heads, bias=False)
        self.conv1d = depthwise(mixed, config.conv_kernel)
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.norm = RMSNorm(self.inner_width, _EPS)
        self.out_proj = nn.Linear(self.inner_width, config.hidden_size, bias=False)

    def reset_parameters(self) -> None:
        """Draw `exp(A_log)` uniform in 1 … 16 and time steps log-uniform in 0.001 … 0.1; D is 1."""
        nn.init.normal_(self.conv1d.weight, std=self.config.initializer_range)
        assert self.conv1d.bias is not None
        nn.init.zeros_(self.conv1d.bias)
        with torch.no_grad():
            self.A_log.copy_(torch.empty_like(self.A_log).uniform_(1, 16).log())
            self.dt_bias.copy_(gate_of_time_steps(len(self.dt_bias)))
        nn.init.ones_(self.D)

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: an empty memory, and zeros as past inputs of the convolution."""
        zeros = upcast(self.in_proj.weight).new_zeros
        heads, past = self.config.num_attention_heads, self.config.conv_kernel - 1
        return {
            "memory": zeros(batch_size, heads, self.head_width, self.config.state_size),
            "past_inputs": zeros(batch_size, past, self.conv1d.in_channels),
        }

    def forward(
        self,
        y: Tensor,
        state: LayerState | None = None,
        position: int = 0,  # noqa: ARG002 - the memory knows no positions
        last: int | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Add to the memory and read it; see `SequenceLayer.forward`."""
        config, after = self.config, {}
        projected = self.in_proj(y)
        sizes = [self.inner_width, self.conv1d.in_channels, config.num_attention_heads]
        gate, mixed, steps = torch.split(projected, sizes, dim=-1)
        past = None if state is None else state["past_inputs"]
        if state is not None:
            after["past_inputs"] = upcast(convolution_history(mixed, self.conv1d, past))
        mixed = F.silu(causal_convolution(mixed, self.conv1d, past))
        x, to_write, to_read = torch.split(mixed, [self.inner_width, self.shared_width, self.shared_width], dim=-1)
        grouped = (config.num_groups, config.state_size)
        read, memory = mamba2_ssd(
            torch.unflatten(x, -1, (config.num_attention_heads, self.head_width)),
            softplus(upcast(steps) + upcast(self.dt_bias)),
            -upcast(self.A_log).exp(),
            torch.unflatten(to_write, -1, grouped),
            torch.unflatten(to_read, -1, grouped),
            self.D,
            initial_state=None if state is None else state["memory"],
        )
        if state is not None:
            after["memory"] = memory
        if last is not None:
            read, gate = read[:, -last:], gate[:, -last:]
        return self.out_proj(self._output(read.flatten(2), gate)), after

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the products of the operator in chunks of C tokens: H P (2 N + C) + G N C."""
        size = min(length, _CHUNK)
        return self.inner_width * (2 * self.config.state_size + size) + self.shared_width * size

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients, in bytes per token; measured at 125M."""
        return FLOAT_BYTES * 28 * self.config.hidden_size

    def diagnostics(self, y: Tensor, before: LayerState | None, position: int, after: LayerState) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the norm of the memory."""
        return {"memory_norm": memory_norm(after["memory"])}

    def _output(self, read: Tensor, gate: Tensor) -> Tensor:
        """Gate the reads (B, L, H P), then normalise the channels of each group."""
        gated = torch.unflatten(upcast(read) * F.silu(upcast(gate)), -1, (self.config.num_groups, -1))
        normed = F.rms_norm(gated, gated.shape[-1:], eps=_EPS).flatten(2)
        return normed * upcast(self.norm.weight)
