"""Gated DeltaNet: the delta rule with decay per head and an output gate (Yang et al., arXiv 2412.06464).

Parameter names are those of flash-linear-attention, and initial values those of its models.

Shapes: B batch, L length, D width, Hv value heads, dv their width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.deltanet import DeltaNet
from tttkit.models.layers import gate_of_time_steps, softplus, upcast

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig


class GatedDeltaNet(DeltaNet):
    """DeltaNet whose memory decays by a factor per token and head, and whose output is gated."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        heads = self.num_value_heads
        self.a_proj = nn.Linear(config.hidden_size, heads, bias=False)
        self.g_proj = nn.Linear(config.hidden_size, self.v_proj.out_features, bias=False)
        self.A_log = nn.Parameter(torch.empty(heads))
        self.dt_bias = nn.Parameter(torch.empty(heads))

    def reset_parameters(self) -> None:
        """Draw the decay: `exp(A_log)` uniform in 0 … 16, time steps log-uniform in 0.001 … 0.1."""
        super().reset_parameters()
        with torch.no_grad():
            # zero has no logarithm
            self.A_log.copy_(torch.empty_like(self.A_log).uniform_(0, 16).clamp_min(1e-4).log())
            self.dt_bias.copy_(gate_of_time_steps(len(self.dt_bias)))

    def _log_decay(self, y: Tensor) -> Tensor:
        return -upcast(self.A_log).exp() * softplus(upcast(self.a_proj(y)) + upcast(self.dt_bias))

    def _output(self, read: Tensor, y: Tensor) -> Tensor:
        gate: Tensor = F.silu(upcast(self.g_proj(y)))
        return super()._output(read, y) * gate.reshape(read.shape)
