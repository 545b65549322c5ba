"""LaCT: large-chunk Test-Time Training beside sliding-window attention (Zhang et al., arXiv 2505.23884).

The memory is a SwiGLU per fast head that learns once per mini-batch; the window sees the tokens of the running
mini-batch, which the memory does not know yet. Initial values are those of the authors' code.

Shapes: B batch, L length, D width, H attention heads, n fast heads of width dk = D / n, dh hidden width, r rank.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.layers import (
    FLOAT_BYTES,
    RMSNorm,
    SequenceLayer,
    memory_norm,
    rotary_tables,
    rotate_halves,
    softplus,
    upcast,
)
from tttkit.models.operators import lact
from tttkit.models.sinks import sinks_attended_twice
from tttkit.models.sliding_window import attend_to_window, window_state
from tttkit.models.transformer import attended_twice

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.operators.lact import LactState
    from tttkit.models.state import LayerState

_EPS = 1e-5
_BASE_RATE = 0.001
"""Learning rate while the projection of the rates returns zero."""
_NAMES = ("w0", "w1", "w2")


class LaCT(SequenceLayer):
    """A fast SwiGLU and window attention on the same queries, keys and values, added; (B, L, D) to (B, L, D)."""

    has_state = True
    has_diagnostics = True
    float32_projections = ("lr_proj", "momentum_proj", "scale_proj")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, heads = config.hidden_size, config.fast_heads
        fast = width // heads
        hidden = round(config.fast_width * fast)
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(width, _EPS), RMSNorm(width, _EPS)
        self.qk_scale = nn.Parameter(torch.empty(width, 2))
        self.qk_offset = nn.Parameter(torch.empty(width, 2))
        rank = config.fast_rank
        for name in ("w0", "w2"):
            if rank:
                self.register_parameter(f"{name}_left", nn.Parameter(torch.empty(heads, hidden, rank)))
                self.register_parameter(f"{name}_right", nn.Parameter(torch.empty(heads, rank, fast)))
            else:
                self.register_parameter(name, nn.Parameter(torch.empty(heads, hidden, fast)))
        self.w1 = nn.Parameter(torch.empty(heads, fast, hidden))
        self.lr_proj = nn.Linear(width, 3 * heads)
        if config.fast_momentum:
            self.momentum_proj = nn.Linear(width, heads)
        self.scale_proj = nn.Linear(width, heads)
        self.fast_norm = RMSNorm(fast, _EPS)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.sink_logit: nn.Parameter | None
        logit = nn.Parameter(torch.empty(config.num_attention_heads)) if config.sink == "logit" else None
        self.register_parameter("sink_logit", logit)

    def reset_parameters(self) -> None:
        """Set the authors' values; the gate of the memory then starts almost closed."""
        nn.init.ones_(self.qk_scale)
        nn.init.zeros_(self.qk_offset)
        hidden, fast = self.w1.shape[2], self.w1.shape[1]
        rank = self.config.fast_rank
        for name in ("w0", "w2"):
            if rank:
                nn.init.normal_(self.get_parameter(f"{name}_left"), std=0.5 / math.sqrt(rank))
                nn.init.normal_(self.get_parameter(f"{name}_right"), std=0.5 / math.sqrt(fast))
            else:
                nn.init.normal_(self.get_parameter(name), std=1 / math.sqrt(fast))
        nn.init.normal_(self.w1, std=1 / math.sqrt(hidden))
        if self.sink_logit is not None:
            nn.init.zeros_(self.sink_logit)
        for part in self.children():
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: fast weights as they start, nothing gathered, an empty window."""
        config, like = self.config, upcast(self.w1)
        state: LayerState = {}
        for i, weight in enumerate(self._initial_weights()):
            empty = like.new_zeros(batch_size, *weight.shape)
            state[f"delta{i}"], state[f"pending{i}"] = empty, empty
            if config.fast_momentum:
                state[f"momentum{i}"] = empty
        if config.fast_momentum:
            state["pending_momentum"] = like.new_zeros(batch_size, config.fast_heads)
        return {**state, **window_state(like, batch_size, config)}

    def forward(
        self, y: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Learn from a segment, and read memory and window; see `SequenceLayer.forward`."""
        queries, keys, values = self.qkv_proj(y).chunk(3, dim=-1)
        queries, keys = self.q_norm(queries), self.k_norm(keys)
        heads = [self._heads(x) for x in (queries.to(values.dtype), keys.to(values.dtype), values)]
        read, after = attend_to_window(
            *heads, config=self.config, state=state, logit=self.sink_logit, rotation=rotate_halves
        )
        read = read.transpose(1, 2).flatten(2)
        with torch.autocast(y.device.type, enabled=False):
            fast, learned = self._learn(upcast(y), queries, keys, upcast(values), state, position)
        if last is not None:
            read, fast = read[:, -last:], fast[:, -last:]
        return self.o_proj(read + fast), {**after, **learned}

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the attention, 9 dk dh per fast head for reading and learning, and Newton-Schulz per mini-batch."""
        config = self.config
        heads, fast, hidden = self.w1.shape
        sinks = sinks_attended_twice(length, config.sliding_window, config.num_sink_tokens)
        window = config.hidden_size * (attended_twice(length, config.sliding_window) + sinks)
        narrow, wide = sorted((fast, hidden))
        muon = 3 * 5 * (2 * narrow * narrow * wide + narrow**3) // config.mini_batch_size if config.fast_muon else 0
        return window + heads * (9 * fast * hidden + muon)

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients, in bytes per token.

        Seven copies of the fast weights of every row count too, shared by the tokens of a window.
        """
        copies = 7 * 3 * self.w1.numel() // max(self.config.sliding_window, self.config.mini_batch_size)
        return super().bytes_per_token() + FLOAT_BYTES * copies

    def diagnostics(self, y: Tensor, before: LayerState | None, position: int, after: LayerState) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the norm of the difference between the fast weights and their learned start."""
        return {"memory_norm": memory_norm(*(after[f"delta{i}"] for i in range(3)))}

    def _initial_weights(self) -> list[Tensor]:
        """Return the learned initial fast weights w0, w1, w2, (n, rows, columns) each."""
        return [upcast(self._initial_weight(name)) for name in _NAMES]

    def _initial_weight(self, name: str) -> Tensor:
        if name == "w1" or not self.config.fast_rank:
            return self.get_parameter(name)
        left, right = self.get_parameter(f"{name}_left"), self.get_parameter(f"{name}_right")
        identity = torch.eye(left.shape[1], right.shape[2], device=left.device, dtype=left.dtype)
        return left @ right + 0.5 * identity

    def _learn(
        self, y: Tensor, queries: Tensor, keys: Tensor, values: Tensor, state: LayerState | None, position: int
    ) -> tuple[Tensor, LayerState]:
        """Run the fast branch in full precision: return its output (B, L, D) and its state."""
        config, (batch, length, _) = self.config, y.shape
        heads = config.fast_heads
        queries, keys = self._fast_heads(queries, keys, state)
        values = F.silu(values).view(batch, length, heads, -1)
        # softplus of this bias is the base rate
        closed = math.log(math.expm1(_BASE_RATE))
        rates = softplus(_linear(self.lr_proj, y) + closed).view(batch, length, heads, 3)
        momentum = _linear(self.momentum_proj, y).sigmoid() if config.fast_momentum else None
        w0, w1, w2 = initial = [weight.expand(batch, *weight.shape) for weight in self._initial_weights()]
        read, after = lact(
            w0,
            w1,
            w2,
            queries,
            keys,
            values,
            rates[..., 0],
            rates[..., 1],
            rates[..., 2],
            momentum,
            chunk=config.mini_batch_size,
            muon=config.fast_muon,
            state=None if state is None else _to_operator(state, initial, position % config.mini_batch_size),
            update_last=state is not None,
        )
        read = self.fast_norm(read) * F.silu(_linear(self.scale_proj, y))[..., None]
        return read.flatten(2), {} if state is None else _from_operator(after, initial)

    def _fast_heads(self, queries: Tensor, keys: Tensor, state: LayerState | None) -> tuple[Tensor, Tensor]:
        """Return the queries and keys of the fast branch, (B, L, n, dk) each."""
        config, (batch, length, _) = self.config, queries.shape
        positions = torch.arange(length, device=queries.device)
        if state is not None:
            positions = positions + state["num_read"][:, None]
        cos, sin = (
            x[..., None, :] for x in rotary_tables(positions, config.head_dim, config.rope_theta, queries.dtype)
        )
        parts = []
        for i, x in enumerate((queries, keys)):
            scaled = x * upcast(self.qk_scale[:, i]) + upcast(self.qk_offset[:, i])
            part = F.silu(scaled).view(batch, length, config.fast_heads, -1)
            part = part / (part.norm(dim=-1, keepdim=True) + _EPS)
            if config.fast_rope:
                attention = (batch, length, config.num_attention_heads, -1)
                part = rotate_halves(part.view(attention), cos, sin).view(part.shape)
            parts.append(part)
        return parts[0], parts[1]

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.config.num_attention_heads, -1).transpose(1, 2)  # (B, H, L, d)


def _linear(projection: nn.Linear, y: Tensor) -> Tensor:
    """Apply a projection in the precision of y."""
    return F.linear(y, projection.weight.to(y.dtype), None if projection.bias is None else projection.bias.to(y.dtype))


def _to_operator(state: LayerState, initial: list[Tensor], count: int) -> LactState:
    """Return the operator's state: fast weights in place of their difference from the start."""
    converted: LactState = {"count": count}
    for i, weight in enumerate(initial):
        converted[f"w{i}"] = weight + state[f"delta{i}"]
        converted[f"g{i}"] = state[f"pending{i}"]
        if "pending_momentum" in state:
            converted[f"m{i}"] = state[f"momentum{i}"]
    if "pending_momentum" in state:
        converted["momentum"] = state["pending_momentum"]
    return converted


def _from_operator(after: LactState, initial: list[Tensor]) -> LayerState:
    """Invert `_to_operator`."""
    state: LayerState = {}
    for i, weight in enumerate(initial):
        state[f"delta{i}"] = after[f"w{i}"] - weight
        state[f"pending{i}"] = after[f"g{i}"]
        if "momentum" in after:
            state[f"momentum{i}"] = after[f"m{i}"]
    if "momentum" in after:
        state["pending_momentum"] = after["momentum"]
    return state
