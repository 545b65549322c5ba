"""RWKV-7: a delta rule with decay and learning rate per channel (Peng et al., arXiv 2503.14456).

Parameter names and initial values are those of flash-linear-attention. Its mix of the values with those of the first
layer is left out, because a sequence layer sees its own input only; the feed-forward layer is that of all models here.

Shapes: B batch, L length, D width, H heads, d = D/H head width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.layers import FLOAT_BYTES, SequenceLayer, memory_norm, upcast
from tttkit.models.operators import rwkv7

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState

_STRONGEST_DECAY = -0.6065306597126334
"""Least log decay per token, -exp(-1/2)."""
_MIXES = ("r", "w", "k", "v", "a", "g")
_MIX_POWERS = {"r": 0.2, "w": 0.9, "k": 0.7, "v": 0.7, "a": 0.9, "g": 0.2}
_CHUNK = 32
"""Tokens of a chunk of the operator, for the count of its arithmetic."""


class LowRank(nn.Module):
    """Two projections with a narrow layer and an activation between them, (…, D) to (…, D)."""

    def __init__(self, width: int, rank: int, activation: nn.Module, *, bias: bool = True) -> None:
        super().__init__()
        self.down_proj = nn.Linear(width, rank, bias=False)
        self.activation = activation
        self.up_proj = nn.Linear(rank, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both projections."""
        up: Tensor = self.up_proj(self.activation(self.down_proj(x)))
        return up


class RWKV7(SequenceLayer):
    """Mixes of each token with the one before it, the memory, a norm per head and a gate, (B, L, D) to (B, L, D)."""

    has_state = True
    has_diagnostics = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, heads, head_dim = config.hidden_size, config.num_attention_heads, config.head_dim
        for name in _MIXES:
            self.register_parameter(f"x_{name}", nn.Parameter(torch.empty(width)))
        self.k_k = nn.Parameter(torch.empty(width))
        self.k_a = nn.Parameter(torch.empty(width))
        self.r_k = nn.Parameter(torch.empty(heads, head_dim))
        self.r_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        factor = head_dim / 64
        self.w_lora = LowRank(width, _rank(2.5 * factor, width), nn.Tanh())
        self.a_lora = LowRank(width, _rank(2.5 * factor, width), nn.Identity())
        self.g_lora = LowRank(width, _rank(5, width), nn.Sigmoid(), bias=False)
        self.g_norm = nn.GroupNorm(heads, width, eps=head_dim * 1e-5)

    def reset_parameters(self) -> None:
        """Set the mixes and biases, which depend on the channel and on the depth of the layer."""
        layers, index = self.config.num_hidden_layers, self.layer_index
        width, head_dim = self.config.hidden_size, self.config.head_dim
        depth, rest = index / max(1, layers - 1), 1 - index / layers
        channel = torch.arange(width, dtype=torch.float32)
        linear = channel / (width - 1) - 0.5
        zigzag = (channel % head_dim - (head_dim - 1) / 2) / ((head_dim - 1) / 2)
        zigzag = zigzag * zigzag.abs()
        decays = -6 + 6 * (channel / (width - 1)) ** (1 + depth**0.3)
        with torch.no_grad():
            for name in _MIXES:
                self.get_parameter(f"x_{name}").copy_(1 - (channel / width) ** (_MIX_POWERS[name] * rest))
            self.k_k.copy_(0.71 - 0.1 * linear)
            self.k_a.fill_(1.02)
            self.r_k.fill_(-0.04)
            self.w_lora.up_proj.bias.copy_(decays + 0.5 + 2.5 * zigzag)
            self.a_lora.up_proj.bias.copy_(-0.19 + 0.3 * zigzag + 0.4 * linear)
            self.g_norm.weight.fill_(((index + 1) / layers) ** 0.7)
            self.g_norm.bias.zero_()

    def reset_projections(self) -> None:
        """Draw orthogonal projections; the output starts at zero, and so do the low-rank parts."""
        nn.init.orthogonal_(self.r_proj.weight)
        nn.init.orthogonal_(self.k_proj.weight, gain=0.1)
        nn.init.orthogonal_(self.v_proj.weight)
        nn.init.zeros_(self.o_proj.weight)
        for part in (self.w_lora, self.a_lora, self.g_lora):
            nn.init.zeros_(part.down_proj.weight)
            rows, columns = part.up_proj.weight.shape
            nn.init.orthogonal_(part.up_proj.weight, gain=0.1 * max(1.0, (rows / columns) ** 0.5))

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: an empty memory, and zeros as the token before."""
        zeros = upcast(self.r_proj.weight).new_zeros
        heads, head_dim = self.config.num_attention_heads, self.config.head_dim
        return {
            "memory": zeros(batch_size, heads, head_dim, head_dim),
            "past_token": zeros(batch_size, 1, self.config.hidden_size),
        }

    def forward(
        self,
        y: Tensor,
        state: LayerState | None = None,
        position: int = 0,  # noqa: ARG002 - the memory knows no positions
        last: int | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Change the memory and read it; see `SequenceLayer.forward`."""
        y = upcast(y)
        first = torch.zeros_like(y[:, :1]) if state is None else state["past_token"].to(y.dtype)
        step = torch.cat((first, y[:, :-1]), dim=1) - y
        r, w, k, v, a, g = (y + step * upcast(self.get_parameter(f"x_{name}")) for name in _MIXES)
        r, k, v = self.r_proj(r), upcast(self.k_proj(k)), self.v_proj(v)
        decay = _STRONGEST_DECAY * torch.sigmoid(upcast(self.w_lora(w)))
        rate = torch.sigmoid(upcast(self.a_lora(a)))
        unit = F.normalize(self._heads(k * upcast(self.k_k)), dim=-1)
        k = k * (1 + (rate - 1) * upcast(self.k_a))
        r, decay, k, v, rate = (self._heads(x) for x in (r, decay, k, v, rate))
        before = None if state is None else state["memory"]
        read, memory = rwkv7(r, decay, k, v, unit, rate, initial_state=before)
        after: LayerState = {} if state is None else {"memory": memory, "past_token": y[:, -1:]}
        if last is not None:
            read, r, k, v, g = (x[:, -last:] for x in (read, r, k, v, g))
        bonus = (upcast(r) * k * upcast(self.r_k)).sum(-1, keepdim=True) * upcast(v)
        normed = self._norm(read) + bonus.flatten(2)
        return self.o_proj(normed * upcast(self.g_lora(g))), after

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the products of the operator in chunks of C tokens: 4 d^2 + 6 d C per head."""
        head_dim, size = self.config.head_dim, min(length, _CHUNK)
        return self.config.num_attention_heads * (4 * head_dim * head_dim + 6 * head_dim * size)

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients, in bytes per token; measured at 125M."""
        return FLOAT_BYTES * 26 * self.config.hidden_size

    def diagnostics(self, y: Tensor, before: LayerState | None, position: int, after: LayerState) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the norm of the memory."""
        return {"memory_norm": memory_norm(after["memory"])}

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.config.num_attention_heads, -1))

    def _norm(self, read: Tensor) -> Tensor:
        """Normalise each head of the reads (B, L, H, d): (B, L, D)."""
        norm = self.g_norm
        with torch.autocast(read.device.type, enabled=False):
            flat = upcast(read).flatten(0, 1).flatten(1)
            normed = F.group_norm(flat, norm.num_groups, upcast(norm.weight), upcast(norm.bias), norm.eps)
        return normed.view(*read.shape[:2], -1)


def _rank(factor: float, width: int) -> int:
    """Return the rank of a low-rank part: a multiple of 32 that grows with the root of the width."""
    return max(32, round(factor * math.sqrt(width) / 32) * 32)
