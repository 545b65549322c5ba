"""The parameters of a Test-Time Training layer, and the quantities that follow from them alone.

Parameter names and initial values are those of the official code (Sun et al., arXiv 2407.04620); docs/ttt.md has the
formulas. Shapes: B batch, L length, D width, H heads, d = D/H head width, C inner mini-batch, M = B x H.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.layers import SequenceLayer, depthwise, rotary_tables, softplus, upcast
from tttkit.models.ttt_decay import INITIAL_BIAS
from tttkit.models.ttt_inner import Matrices

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState


class TTTParameters(SequenceLayer):
    """What `TTTLayer` computes with."""

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, heads, head_dim = config.hidden_size, config.num_attention_heads, config.head_dim
        self.q_proj = nn.Linear(width, width, bias=False)
        if not config.share_qk:
            self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        if config.use_gate:
            self.g_proj = nn.Linear(width, width, bias=False)
        if config.share_qk:
            self.conv_q = depthwise(width, config.conv_kernel)
            self.conv_k = depthwise(width, config.conv_kernel)
        self.learnable_ttt_lr_weight = nn.Parameter(torch.empty(heads, 1, width))
        self.learnable_ttt_lr_bias = nn.Parameter(torch.empty(heads, 1))
        self.learnable_token_idx = nn.Parameter(torch.empty(config.mini_batch_size))
        self.ttt_norm_weight = nn.Parameter(torch.empty(heads, head_dim))
        self.ttt_norm_bias = nn.Parameter(torch.empty(heads, head_dim))
        self.post_norm = nn.LayerNorm(width, eps=1e-6)
        sizes = [head_dim, head_dim] if config.ttt_layer_type == "linear" else [head_dim, 4 * head_dim, head_dim]
        self.num_inner_layers = len(sizes) - 1
        for i in range(self.num_inner_layers):
            self.register_parameter(f"W{i + 1}", nn.Parameter(torch.empty(heads, sizes[i], sizes[i + 1])))
            self.register_parameter(f"b{i + 1}", nn.Parameter(torch.empty(heads, 1, sizes[i + 1])))
        if config.learn_state_decay:
            self.learnable_state_decay = nn.Parameter(torch.empty(heads))
        if config.inner_decay == "token":
            self.inner_decay_weight = nn.Parameter(torch.empty(heads, 1, width))
        if config.inner_decay != "none":
            self.inner_decay_bias = nn.Parameter(torch.empty(heads, 1))
        if config.inner_momentum:
            self.inner_momentum_logit = nn.Parameter(torch.empty(heads))
        cos, sin = rotary_tables(torch.arange(config.mini_batch_size), head_dim, config.rope_theta)
        self.register_buffer("rotary_cos", cos, persistent=False)
        self.register_buffer("rotary_sin", sin, persistent=False)

    def reset_parameters(self) -> None:
        """Set the official values: fast weights and learning-rate gate N(0, initializer_range), the rest neutral."""
        std = self.config.initializer_range
        for i in range(self.num_inner_layers):
            nn.init.normal_(self.get_parameter(f"W{i + 1}"), std=std)
            nn.init.zeros_(self.get_parameter(f"b{i + 1}"))
        nn.init.normal_(self.learnable_ttt_lr_weight, std=std)
        nn.init.zeros_(self.learnable_ttt_lr_bias)
        nn.init.zeros_(self.learnable_token_idx)
        nn.init.ones_(self.ttt_norm_weight)
        nn.init.zeros_(self.ttt_norm_bias)
        if self.config.learn_state_decay:
            kept = self.config.state_decay
            nn.init.constant_(self.learnable_state_decay, math.log(kept / (1 - kept)))
        if self.config.inner_decay == "token":
            nn.init.zeros_(self.inner_decay_weight)
        if self.config.inner_decay != "none":
            nn.init.constant_(self.inner_decay_bias, INITIAL_BIAS)
        if self.config.inner_momentum:
            share = self.config.inner_momentum
            nn.init.constant_(self.inner_momentum_logit, math.log(share / (1 - share)))

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: initial fast weights, and zeros as past inputs of the convolutions."""
        state: LayerState = {}
        for i, weight in enumerate(self._initial_weights()):
            state[f"delta{i + 1}"] = weight.new_zeros(batch_size, *weight.shape)
            state[f"pending{i + 1}"] = weight.new_zeros(batch_size, *weight.shape)
            if self.config.inner_momentum:
                state[f"velocity{i + 1}"] = weight.new_zeros(batch_size, *weight.shape)
        if self.config.inner_decay != "none":
            state["pending_decay"] = state["delta1"].new_zeros(batch_size, self.config.num_attention_heads)
        if self.config.inner_lr_decay:
            state["num_read"] = state["delta1"].new_zeros(batch_size)
        if self.config.share_qk:
            past = (batch_size, self.config.conv_kernel - 1, self.config.hidden_size)
            state["past_qk"] = self.q_proj.weight.new_zeros(past)
        return state

    def _learning_rates(self, y: Tensor, state: LayerState | None) -> Tensor:
        """Return the learning rates l_j of the source tokens, (B, L, H), for y (B, L, D) read from `state`."""
        gate = F.linear(y, self.learnable_ttt_lr_weight[:, 0], self.learnable_ttt_lr_bias[:, 0])
        rates = self.config.ttt_base_lr * torch.sigmoid(gate) / self.config.head_dim
        power = self.config.inner_lr_decay
        if not power:
            return rates
        num_read = torch.arange(y.shape[1], dtype=rates.dtype, device=y.device)[None]
        if state is not None:
            num_read = num_read + state["num_read"][:, None]
        age = (num_read / self.config.mini_batch_size).floor()  # whole mini-batches before the token's own, (B, L)
        return rates * (1 + age).pow(-power)[..., None]

    def _log_decay(self, y: Tensor) -> Tensor | None:
        """Return the logarithm of the share that each token keeps, (B, L, H), for y (B, L, D); None if it keeps all."""
        if self.config.inner_decay == "none":
            return None
        bias = self.inner_decay_bias[:, 0]
        if self.config.inner_decay == "token":
            return -softplus(F.linear(y, upcast(self.inner_decay_weight[:, 0]), upcast(bias)))
        return -softplus(upcast(bias)).expand(*y.shape[:2], -1)

    def _kept(self, batch: int) -> Tensor:
        """Return the share of what the state learned that it keeps every `decay_window` tokens: one, or (M, 1, 1)."""
        if not self.config.learn_state_decay:
            return upcast(self.ttt_norm_weight).new_full((), self.config.state_decay)
        return torch.sigmoid(upcast(self.learnable_state_decay)).repeat(batch)[:, None, None]

    def _momentum(self, batch: int) -> Tensor | None:
        """Return the share of the last change that the next mini-batch begins with, (M, 1, 1); None without."""
        if not self.config.inner_momentum:
            return None
        return torch.sigmoid(upcast(self.inner_momentum_logit)).repeat(batch)[:, None, None]

    def _factors(self) -> Tensor:
        """Return the position factors t_i = max(1/i + tau_i, 0), (C)."""
        tau = upcast(self.learnable_token_idx)
        index = torch.arange(1, self.config.mini_batch_size + 1, dtype=tau.dtype, device=tau.device)
        return (1 / index + tau).clamp_min(0)

    def _initial_weights(self) -> Matrices:
        """Return the learned initial fast weights W_0, the bias as the last row: (H, rows + 1, columns) each."""
        names = [(f"W{i}", f"b{i}") for i in range(1, self.num_inner_layers + 1)]
        return tuple(upcast(torch.cat([self.get_parameter(name) for name in pair], dim=1)) for pair in names)
