"""The specification of a TTT layer: it computes one token at a time, as plainly as possible.

Sun et al., "Learning to (Learn at Test Time)" (arXiv 2407.04620), sections 2.1 to 2.7, in the official parametrisation.
Automatic differentiation of the inner loss gives the inner gradient; nothing is detached, and there is no dual form.
`ttt.py` must agree with it. It is slow: use it for tests and reading. Shapes: B batch, L length, D width, d head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tttkit.models.layers import causal_convolution, rotate

if TYPE_CHECKING:
    from tttkit.models.ttt import TTTLayer

EPS = 1e-6


def reference_forward(layer: TTTLayer, y: Tensor) -> Tensor:
    """Return the output (B, L, D) of a TTT layer for its normalised input (B, L, D), from the initial state."""
    queries, keys, values = projections(layer, y)
    rows = []
    for b in range(y.shape[0]):
        heads = []
        for h in range(layer.config.num_attention_heads):
            norm = layer.ttt_norm_weight[h], layer.ttt_norm_bias[h]
            tokens = read_head(layer, h, y[b], queries[b], keys[b], values[b])
            heads.append(torch.cat([inner_model(token.query, token.learned, *norm) for token in tokens]))
        rows.append(torch.cat(heads, dim=-1))  # (L, D)
    post_norm = layer.post_norm
    read = F.layer_norm(torch.stack(rows), (y.shape[-1],), post_norm.weight, post_norm.bias, EPS)
    if layer.config.use_gate:
        read = read * F.gelu(layer.g_proj(y), approximate="tanh")
    output: Tensor = layer.o_proj(read)
    return output


def inner_model(u: Tensor, weights: dict[str, Tensor], scale: Tensor, shift: Tensor) -> Tensor:
    """Return f(u) = u + norm(z) with z = u W1 + b1, or z = gelu(u W1 + b1) W2 + b2; u is (1, d)."""
    z = u @ weights["W1"] + weights["b1"]
    if "W2" in weights:
        z = F.gelu(z, approximate="tanh") @ weights["W2"] + weights["b2"]
    return u + F.layer_norm(z, z.shape[-1:], scale, shift, EPS)


def inner_loss(weights: dict[str, Tensor], key: Tensor, value: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the loss that the inner model learns to lower: the distance from f(key) to the value."""
    return 0.5 * (inner_model(key, weights, scale, shift) - value).square().sum()


class TokenRead(NamedTuple):
    """One token of one head: its query, key and value, (1, d) each, and the fast weights around it."""

    query: Tensor
    key: Tensor
    value: Tensor
    unlearned: dict[str, Tensor]
    """The weights at which its gradient is taken: those of the start of its mini-batch."""
    learned: dict[str, Tensor]
    """The weights that it reads with, which have learned from it."""


def read_head(
    layer: TTTLayer, head: int, y: Tensor, queries: Tensor, keys: Tensor, values: Tensor
) -> Iterator[TokenRead]:
    """Run the inner loop of one head over one row of text, (L, D) each, and yield it token by token."""
    config = layer.config
    size, part = config.mini_batch_size, slice(head * config.head_dim, (head + 1) * config.head_dim)
    scale, shift = layer.ttt_norm_weight[head], layer.ttt_norm_bias[head]
    names = [name for name in ("W1", "b1", "W2", "b2") if hasattr(layer, name)]
    initial = weights = {name: layer.get_parameter(name)[head] for name in names}
    before, velocity = weights, {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for token in range(y.shape[0]):
        slot = token % size  # 0-based index in the mini-batch
        if slot == 0:
            before = weights
            if config.inner_momentum:
                share = torch.sigmoid(layer.inner_momentum_logit[head])
                weights = {name: weights[name] + share * velocity[name] for name in names}
            start = weights  # `start` decays; the gradients are taken at `weights`, which do not
            gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        cos, sin = layer.rotary_cos[slot], layer.rotary_sin[slot]
        query, key = (rotate(x[token : token + 1, part], cos, sin) for x in (queries, keys))
        value = values[token : token + 1, part]
        gate = layer.learnable_ttt_lr_weight[head, 0] @ y[token] + layer.learnable_ttt_lr_bias[head, 0]
        learning_rate = config.ttt_base_lr * torch.sigmoid(gate) / config.head_dim
        learning_rate = learning_rate * (1 + token // size) ** -config.inner_lr_decay
        if config.inner_decay != "none":
            decay_input = layer.inner_decay_bias[head, 0]
            if config.inner_decay == "token":
                decay_input = decay_input + layer.inner_decay_weight[head, 0] @ y[token]
            share = 1 / (1 + torch.exp(decay_input))
            start = {name: initial[name] + share * (start[name] - initial[name]) for name in names}
            gradients = {name: share * gradients[name] for name in names}
        # all gradients of a mini-batch are taken at the weights of its start
        gradient = torch.func.grad(inner_loss)(weights, key, value, scale, shift)
        gradients = {name: gradients[name] + learning_rate * gradient[name] for name in names}
        factor = torch.clamp(1 / (slot + 1) + layer.learnable_token_idx[slot], min=0)
        learned = {name: start[name] - factor * gradients[name] for name in names}
        yield TokenRead(query, key, value, weights, learned)
        if slot == size - 1:
            velocity = {name: learned[name] - before[name] for name in names}
            weights = learned
            if config.inner_rescale:
                weights = {name: _rescaled(learned[name], initial[name]) for name in names}


def _rescaled(weight: Tensor, initial: Tensor) -> Tensor:
    """Bring every column of a matrix to the norm that it started with; a bias, (1, columns), stays as it is."""
    return weight if len(weight) == 1 else weight * initial.norm(dim=0) / (weight.norm(dim=0) + 1e-5)


def projections(layer: TTTLayer, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, (B, L, D) each, before the rotation."""
    shared = layer.q_proj(y)
    if layer.config.share_qk:
        queries, keys = (causal_convolution(shared, conv, None) for conv in (layer.conv_q, layer.conv_k))
        return queries, keys, layer.v_proj(y)
    return shared, layer.k_proj(y), layer.v_proj(y)
