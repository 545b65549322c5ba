"""Test-Time Training layers: TTT-Linear and TTT-MLP, with the official parameter names.

Sun et al., "Learning to (Learn at Test Time)" (arXiv 2407.04620); docs/ttt.md has the formulas.

Shapes: B batch, L length, D width, H heads, d = D/H head width, C inner mini-batch, N pieces of text. The inner loop
runs in float32 (float64 if the model is float64), regardless of autocast; only the projections around it run in bf16.
On a GPU the operands of its products are rounded to tf32 or bf16, but its sums and states are not.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tttkit.models.layers import (
    FLOAT_BYTES,
    causal_convolution,
    convolution_history,
    rotate,
    upcast,
)
from tttkit.models.ttt_decay import cut_decay
from tttkit.models.ttt_inner import Chunks, Matrices, pieces
from tttkit.models.ttt_parameters import TTTParameters
from tttkit.models.ttt_scan import fused_obstacle, scan
from tttkit.models.ttt_state import FastState

if TYPE_CHECKING:
    from collections.abc import Callable

    from tttkit.models.state import LayerState


class TTTLayer(TTTParameters):
    """Sequence layer whose state is an inner model that learns while it reads, (B, L, D) to (B, L, D)."""

    has_state = True
    has_diagnostics = True

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

        The layers of TTT-MLP are 4 d wide, so the first term is 8 times and the second 5/2 times as large. A decay
        reads from the initial weights too, d^2 or 8 d^2, and one from the token has a projection of its own, D.
        """
        outer, inner = (3, 2) if self.config.ttt_layer_type == "linear" else (24, 5)
        head_dim, gates = self.config.head_dim, 0
        if self.config.inner_decay != "none":
            outer += 1 if self.config.ttt_layer_type == "linear" else 8
            gates = self.config.hidden_size if self.config.inner_decay == "token" else 0
        return self.config.num_attention_heads * (
            outer * head_dim * head_dim + inner * self.config.mini_batch_size * head_dim + gates
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
        With `inner_decay`, the mean share that a token keeps is there too.
        """
        unlearned, learned = self.inner_losses(y, before, position)
        squares = sum(tensor.float().square().sum() for name, tensor in after.items() if name.startswith("delta"))
        norm = torch.as_tensor(squares / y.shape[0]) ** 0.5
        figures = {"inner_loss_before": unlearned, "inner_loss_after": learned, "fast_weight_norm": norm}
        log_decay = self._log_decay(upcast(y))
        return figures if log_decay is None else {**figures, "mean_decay": log_decay.exp().mean()}

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
        config, (batch, length, _) = self.config, y.shape
        mini_batch, momentum = config.mini_batch_size, self._momentum(batch)
        is_by_mini_batch = watch is not None or momentum is not None or config.inner_rescale
        border = mini_batch if is_by_mini_batch else config.decay_window if config.decays else None
        learning_rates, log_decay = self._learning_rates(y, state), self._log_decay(y)
        fast = FastState.of(
            self._initial_weights(), batch, state,
            momentum=momentum is not None, is_border=position % mini_batch == 0,
        )  # fmt: skip
        outputs = []
        for start, stop, size in pieces(length, position, mini_batch, border):
            at = position + start
            if config.decays and at % config.decay_window == 0:
                fast = fast.pulled(self._kept(batch))
            if momentum is not None and at % mini_batch == 0:
                fast = fast.moved(momentum)
            parts = [part[:, start:stop] for part in (queries, keys, values, learning_rates)]
            chunks = self._chunks(parts, size, at % mini_batch)
            if log_decay is not None:
                before = fast.log_decay if at % mini_batch else None
                chunks = dataclasses.replace(
                    chunks, decay=cut_decay(log_decay[:, start:stop], size, before, fast.initial)
                )
            if watch is not None:
                watch(chunks, fast.weights)
            read, weights, pending = scan(config, chunks, fast.weights, fast.pending)
            fast = fast.learned(weights, pending, chunks, momentum)
            if config.inner_rescale and chunks.closes:
                fast = fast.rescaled()
            outputs.append(_join(read, batch))
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return joined, {} if state is None else self._finish(fast, state, length)

    def _finish(self, fast: FastState, before: LayerState, length: int) -> LayerState:
        """Return the fast state after a segment of `length` tokens."""
        batch = before["delta1"].shape[0]
        after = fast.to_layer_state(batch)
        if "pending_decay" in before:
            waiting = before["pending_decay"]
            waiting = torch.zeros_like(waiting) if fast.log_decay is None else fast.log_decay.view(batch, -1)
            after["pending_decay"] = waiting
        if "num_read" in before:
            after["num_read"] = before["num_read"] + length
        return after

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


def _join(read: Tensor, batch: int) -> Tensor:
    """Reshape (N, B x H, C, d) to (B, N x C, H x d)."""
    num, _, size, head_dim = read.shape
    return read.view(num, batch, -1, size, head_dim).permute(1, 0, 3, 2, 4).reshape(batch, num * size, -1)
