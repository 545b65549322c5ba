"""Test-Time Training layers: TTT-Linear and TTT-MLP, with the official parameter names.

Sun et al., "Learning to (Learn at Test Time)" (arXiv 2407.04620); docs/ttt.md has the formulas.

Shapes: B batch, L length, D width, H heads, d = D/H head width, C inner mini-batch, N pieces of text. The inner loop
runs in float32 (float64 if the model is float64), regardless of autocast; only the projections around it run in bf16.
On a GPU the operands of its products are rounded to tf32 or bf16, but its sums and states are not.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.layers import (
    FLOAT_BYTES,
    SequenceLayer,
    causal_convolution,
    convolution_history,
    depthwise,
    rotary_tables,
    rotate,
    upcast,
)
from tttkit.models.ttt_decay import INITIAL_BIAS, cut_decay
from tttkit.models.ttt_inner import Chunks, Matrices, pieces
from tttkit.models.ttt_scan import fused_obstacle, scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState


class TTTLayer(SequenceLayer):
    """Sequence layer whose state is an inner model that learns while it reads, (B, L, D) to (B, L, D)."""

    has_state = True
    has_diagnostics = True
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

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: initial fast weights, and zeros as past inputs of the convolutions."""
        state: LayerState = {}
        for i, weight in enumerate(self._initial_weights()):
            state[f"delta{i + 1}"] = weight.new_zeros(batch_size, *weight.shape)
            state[f"pending{i + 1}"] = weight.new_zeros(batch_size, *weight.shape)
        if self.config.inner_decay != "none":
            state["pending_decay"] = state["delta1"].new_zeros(batch_size, self.config.num_attention_heads)
        if self.config.share_qk:
            past = (batch_size, self.config.conv_kernel - 1, self.config.hidden_size)
            state["past_qk"] = self.q_proj.weight.new_zeros(past)
        return state

    def forward(
        self, y: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Learn from a segment and read it; see `SequenceLayer.forward`."""
        queries, keys, values, after = self._project(y, state)
        with torch.autocast(y.device.type, enabled=False):
            read, fast = self._learn(upcast(y), queries, keys, values, state, position)
            if last is not None:
                y, read = y[:, -last:], read[:, -last:]
            read = F.layer_norm(
                read, self.post_norm.normalized_shape, self.post_norm.weight, self.post_norm.bias, self.post_norm.eps
            )
        if self.config.use_gate:
            read = read * F.gelu(self.g_proj(y), approximate="tanh")
        return self.o_proj(read), {**after, **fast}

    def multiply_adds_per_token(self, length: int) -> int:  # noqa: ARG002 - the inner loop costs the same everywhere
        """Count the products of the inner loop: 3 d^2 + 2 C d per head for TTT-Linear.

        The layers of TTT-MLP are 4 d wide, so the first term is 8 times and the second 5/2 times as large.
        """
        outer, inner = (3, 2) if self.config.ttt_layer_type == "linear" else (24, 5)
        head_dim = self.config.head_dim
        return self.config.num_attention_heads * (
            outer * head_dim * head_dim + inner * self.config.mini_batch_size * head_dim
        )

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients, in bytes per token: see `SequenceLayer`."""
        widths = 58 if self.config.ttt_layer_type == "mlp" else 22
        return FLOAT_BYTES * widths * self.config.hidden_size

    def compiled_note(self, device_type: str, dtype: torch.dtype) -> str:
        """Say whether a Triton kernel runs the inner loop on a GPU, or why not."""
        if device_type != "cuda":
            return ""
        obstacle = fused_obstacle(self.config, device_type, dtype)
        return ", inner loops in a Triton kernel" if obstacle is None else f", inner loops too (kernel: {obstacle})"

    def diagnostics(self, y: Tensor, before: LayerState | None, position: int, after: LayerState) -> dict[str, Tensor]:
        """Return the inner loss per position before and after learning, (L) each, and the norm of the fast weights.

        The norm is the root mean square over rows of |W - W_0|, all heads together; W_0 is the learned initial value.
        """
        unlearned, learned = self.inner_losses(y, before, position)
        squares = sum(tensor.float().square().sum() for name, tensor in after.items() if name.startswith("delta"))
        norm = torch.as_tensor(squares / y.shape[0]) ** 0.5
        return {"inner_loss_before": unlearned, "inner_loss_after": learned, "fast_weight_norm": norm}

    @torch.no_grad()
    def inner_losses(self, y: Tensor, state: LayerState | None = None, position: int = 0) -> tuple[Tensor, Tensor]:
        """Return the inner loss 1/2 |f(k) - v|^2 per feature at each position, (L), before and after learning.

        The loss before learning uses the fast weights at the start of the mini-batch. The loss after learning uses the
        fast weights that have learned from the mini-batch up to and including the token itself. Both are means over
        rows and heads. Arguments are as in `forward`.
        """
        before: list[Tensor] = []

        def watch(chunks: Chunks, weights: Matrices) -> None:
            frozen = dataclasses.replace(chunks, learning_rates=torch.zeros_like(chunks.learning_rates), decay=None)
            outputs, _, _ = scan(self.config, frozen, weights, None)
            before.append(0.5 * (outputs - chunks.values).square().mean(dim=(0, 1, 3)))

        _, keys, values, _ = self._project(y, state)
        with torch.autocast(y.device.type, enabled=False):
            # the keys are the queries: the outputs are f(k)
            outputs, _ = self._learn(upcast(y), keys, keys, values, state, position, watch)
            after = 0.5 * (outputs - upcast(values)).square().mean(dim=(0, 2))
        return torch.cat(before), after

    def _learning_rates(self, y: Tensor) -> Tensor:
        """Return the learning rates l_j of the source tokens, (B, L, H), for y (B, L, D)."""
        gate = F.linear(y, self.learnable_ttt_lr_weight[:, 0], self.learnable_ttt_lr_bias[:, 0])
        return self.config.ttt_base_lr * torch.sigmoid(gate) / self.config.head_dim

    def _log_decay(self, y: Tensor) -> Tensor | None:
        """Return the logarithm of the share that each token keeps, (B, L, H), for y (B, L, D); None if it keeps all."""
        if self.config.inner_decay == "none":
            return None
        bias = self.inner_decay_bias[:, 0]
        if self.config.inner_decay == "token":
            return -F.softplus(F.linear(y, upcast(self.inner_decay_weight[:, 0]), upcast(bias)))
        return -F.softplus(upcast(bias)).expand(*y.shape[:2], -1)

    def _project(self, y: Tensor, state: LayerState | None) -> tuple[Tensor, Tensor, Tensor, LayerState]:
        """Return queries, keys and values, each (B, L, D), and the state of the convolutions."""
        queries, values = self.q_proj(y), self.v_proj(y)
        if not self.config.share_qk:
            return queries, self.k_proj(y), values, {}
        shared, past = queries, None if state is None else state["past_qk"]
        queries, keys = (causal_convolution(shared, conv, past) for conv in (self.conv_q, self.conv_k))
        after = {} if state is None else {"past_qk": upcast(convolution_history(shared, self.conv_q, past))}
        return queries, keys, values, after

    def _learn(
        self,
        y: Tensor,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        state: LayerState | None,
        position: int,
        watch: Callable[[Chunks, Matrices], None] | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Run the inner loop over a segment that starts at `position`: return outputs (B, L, D) and the fast state.

        `watch` is called with every mini-batch, N = 1, and the fast weights at its start.
        """
        batch, length, _ = y.shape
        mini_batch, decay_window = self.config.mini_batch_size, self.config.decay_window
        border = mini_batch if watch else decay_window if self.config.decays else None
        learning_rates = self._learning_rates(y)
        weights, pending = self._start(batch, state, position % mini_batch)
        initial = weights if state is None else self._start(batch, None, 0)[0]
        log_decay = self._log_decay(y)
        decayed = None if state is None or log_decay is None else state["pending_decay"].flatten()
        outputs = []
        for start, stop, size in pieces(length, position, mini_batch, border):
            at = position + start
            if self.config.decays and at % decay_window == 0:
                weights = self._decay(weights, initial, batch)
            parts = [part[:, start:stop] for part in (queries, keys, values, learning_rates)]
            chunks = self._chunks(parts, size, at % mini_batch)
            if log_decay is not None:
                decay = cut_decay(log_decay[:, start:stop], size, decayed if at % mini_batch else None, initial)
                chunks = dataclasses.replace(chunks, decay=decay)
                decayed = None if chunks.closes else decay.log[-1, :, -1]
            if watch is not None:
                watch(chunks, weights)
            read, weights, pending = scan(self.config, chunks, weights, pending)
            outputs.append(_join(read, batch))
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        if state is None:
            return joined, {}
        after = self._finish(weights, initial, pending, batch)
        if log_decay is not None:
            after["pending_decay"] = (
                log_decay.new_zeros(batch, log_decay.shape[2]) if decayed is None else decayed.view(batch, -1)
            )
        return joined, after

    def _decay(self, weights: Matrices, initial: Matrices, batch: int) -> Matrices:
        """Pull the fast weights towards their initial values W_0: W_0 + kept * (W - W_0), per head."""
        kept = initial[0].new_full((), self.config.state_decay)
        if self.config.learn_state_decay:
            kept = torch.sigmoid(upcast(self.learnable_state_decay)).repeat(batch)[:, None, None]  # (B x H, 1, 1)
        return tuple(torch.lerp(start, weight, kept) for start, weight in zip(initial, weights, strict=True))

    def _chunks(self, parts: list[Tensor], size: int, first: int) -> Chunks:
        """Cut (B, L, …) into L / size pieces whose first token has index `first` in its mini-batch."""
        queries, keys, values, learning_rates = parts
        batch, length, heads = learning_rates.shape
        shape = (batch, length // size, size, heads, -1)
        bf16 = queries.dtype not in (torch.float32, torch.float64)
        cut = [upcast(x).view(shape).permute(1, 0, 3, 2, 4) for x in (queries, keys, values)]  # (N, B, H, C, d) each
        cos, sin = self.rotary_cos[first : first + size], self.rotary_sin[first : first + size]
        queries, keys, values = (
            x.reshape(length // size, batch * heads, size, -1)
            for x in (rotate(cut[0], cos, sin), rotate(cut[1], cos, sin), cut[2])
        )
        return Chunks(
            queries=queries,
            keys=keys,
            values=values,
            learning_rates=learning_rates.view(batch, -1, size, heads)
            .permute(1, 0, 3, 2)
            .reshape(-1, batch * heads, size),
            factors=self._factors()[first : first + size],
            scale=self.ttt_norm_weight.repeat(batch, 1)[:, None],
            shift=self.ttt_norm_bias.repeat(batch, 1)[:, None],
            eps=1e-6,
            closes=first + size == self.config.mini_batch_size,
            bf16=bf16,
        )

    def _factors(self) -> Tensor:
        """Return the position factors t_i = max(1/i + tau_i, 0), (C)."""
        tau = upcast(self.learnable_token_idx)
        index = torch.arange(1, self.config.mini_batch_size + 1, dtype=tau.dtype, device=tau.device)
        return (1 / index + tau).clamp_min(0)

    def _initial_weights(self) -> Matrices:
        """Return the learned initial fast weights W_0, the bias as the last row: (H, rows + 1, columns) each."""
        names = [(f"W{i}", f"b{i}") for i in range(1, self.num_inner_layers + 1)]
        return tuple(upcast(torch.cat([self.get_parameter(name) for name in pair], dim=1)) for pair in names)

    def _start(self, batch: int, state: LayerState | None, offset: int) -> tuple[Matrices, Matrices | None]:
        """Return the fast weights (B x H, rows + 1, columns) at the start of the mini-batch, and its pending sum."""
        weights = tuple(weight.expand(batch, *weight.shape) for weight in self._initial_weights())
        pending = None
        if state is not None:
            names = range(1, self.num_inner_layers + 1)
            weights = tuple(weight + state[f"delta{i}"] for i, weight in zip(names, weights, strict=True))
            pending = tuple(state[f"pending{i}"].flatten(0, 1) for i in names) if offset else None
        return tuple(weight.flatten(0, 1) for weight in weights), pending

    def _finish(self, weights: Matrices, initial: Matrices, pending: Matrices | None, batch: int) -> LayerState:
        """Return the fast state after a segment, from weights and pending sum at its end."""
        state: LayerState = {}
        for i, (weight, start) in enumerate(zip(weights, initial, strict=True), start=1):
            delta = weight - start
            state[f"delta{i}"] = delta.view(batch, -1, *delta.shape[1:])
            waiting = torch.zeros_like(delta) if pending is None else pending[i - 1]
            state[f"pending{i}"] = waiting.view(batch, -1, *delta.shape[1:])
        return state


def _join(read: Tensor, batch: int) -> Tensor:
    """Reshape (N, B x H, C, d) to (B, N x C, H x d)."""
    num, _, size, head_dim = read.shape
    return read.view(num, batch, -1, size, head_dim).permute(1, 0, 3, 2, 4).reshape(batch, num * size, -1)
