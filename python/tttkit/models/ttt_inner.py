"""The inner loop of a TTT layer in its dual form: one matrix form per mini-batch, mini-batches in sequence.

Sun et al., "Learning to (Learn at Test Time)" (arXiv 2407.04620), section 2.5 and appendix A; docs/ttt.md.
`ttt_reference.py` computes the same function token by token. Shapes: M = batch x heads, N mini-batches, C tokens in
each, d head width, e inner input width. The last row of a fast weight matrix, (M, e + 1, columns), is its bias, so the
last column of its inputs is 1.

Cost per token and head: O(C d + d^2) products; memory is linear in the length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

from tttkit.models.ttt_decay import Decay

Matrices = tuple[Tensor, ...]
"""Fast weights of the layers of the inner model."""

_PieceDecay = tuple[Tensor, Tensor, Matrices]
"""`kept` and `since_pending` of one piece, (M, C, 1) each, and the initial weights; see `Decay`."""

ScanResult = tuple[Tensor, Matrices, Matrices | None]
"""Outputs, weights at the start of the current mini-batch, its pending sum (None: it has no tokens yet)."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Inputs of N equal pieces of text; none of them crosses the border of a mini-batch."""

    queries: Tensor  # (N, M, C, d)
    keys: Tensor  # (N, M, C, d)
    values: Tensor  # (N, M, C, d)
    learning_rates: Tensor  # (N, M, C): learning rate l_j of the source token
    factors: Tensor  # (C): position factor t_i of the querying token
    scale: Tensor  # (M, 1, d): scale of the inner norm
    shift: Tensor  # (M, 1, d): shift of the inner norm
    eps: float
    closes: bool  # whether every piece ends its mini-batch
    bf16: bool  # whether a GPU kernel rounds the operands of its products to bf16, as autocast has rounded the inputs
    decay: Decay | None = None  # decay of the fast weights at every token


def pieces(length: int, position: int, mini_batch: int, border: int | None) -> list[tuple[int, int, int]]:
    """Cut a segment that starts at `position`: the rest of a mini-batch, the whole mini-batches, the start of another.

    Each piece is (start, stop, size): its tokens in the segment, and how many of them belong to one mini-batch. The
    whole mini-batches are one piece, or are cut at every multiple of `border`, which is a multiple of the mini-batch.
    """
    head = min(length, -position % mini_batch)
    body = head + (length - head) // mini_batch * mini_batch
    cuts = [] if border is None else range(head + -(position + head) % border, body, border)
    starts = sorted({head, *cuts})
    whole = [(start, stop, mini_batch) for start, stop in pairwise([*starts, body])]
    all_pieces = [(0, head, head), *whole, (body, length, length - body)]
    return [piece for piece in all_pieces if piece[1] > piece[0]]


def append_one(x: Tensor) -> Tensor:
    """Append the constant input that the bias row multiplies: (…, e) to (…, e + 1)."""
    return F.pad(x, (0, 1), value=1.0)


def norm_gradient(z: Tensor, pull: Tensor, squared_scale: Tensor, eps: float) -> Tensor:
    """Return the gradient at z of the inner loss 1/2 |scale * norm(z) + shift - target|^2, (M, C, d).

    `pull` is scale * (shift - target), (M, C, d); `squared_scale` is (M, 1, d).
    """
    gradient: Tensor = _NormGradient.apply(z, pull, squared_scale, eps)
    return gradient


class _NormGradient(torch.autograd.Function):
    """`norm_gradient` with a hand-written derivative, which needs a third of the kernels of automatic differentiation.

    The function is r P u, with n the normalised z, r = 1/sqrt(var + eps), u = squared_scale n + pull, and the symmetric
    map P x = x - mean(x) - n mean(n x).
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, pull: Tensor, squared_scale: Tensor, eps: float) -> Tensor:
        normed, _, inverse = torch.native_layer_norm(z, z.shape[-1:], None, None, eps)
        u = torch.addcmul(pull, squared_scale, normed)
        projected = _project(u, normed)
        ctx.save_for_backward(normed, inverse, u, projected, squared_scale)
        return projected * inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        normed, inverse, u, projected, squared_scale = ctx.saved_tensors
        grad_u = _project(grad, normed) * inverse
        # normed enters as a factor in P, and through u
        along_u = (u * normed).mean(-1, keepdim=True)
        along_grad = (grad * normed).mean(-1, keepdim=True)
        grad_normed = torch.addcmul(squared_scale * grad_u, grad * along_u + u * along_grad, inverse, value=-1)
        grad_inverse = (grad * projected).mean(-1, keepdim=True)
        grad_z = (_project(grad_normed, normed) - normed * (grad_inverse * inverse)) * inverse
        return grad_z, grad_u, (grad_u * normed).sum(-2, keepdim=True), None


def _project(x: Tensor, normed: Tensor) -> Tensor:
    """Remove from x (…, d) its mean and its part along the normed vector."""
    along = (x * normed).mean(-1, keepdim=True)
    return torch.addcmul(x - x.mean(-1, keepdim=True), normed, along, value=-1)


def scan_linear(chunks: Chunks, weights: Matrices, pending: Matrices | None) -> ScanResult:
    """Run TTT-Linear, f(u) = u + norm(u W + b): return outputs (N, M, C, d), then weights and pending sums afterwards.

    `weights` are the weights at the start of the mini-batch, and `pending` is the sum over its earlier tokens (None: no
    earlier tokens).
    """
    (weight,) = weights
    queries, keys = append_one(chunks.queries), append_one(chunks.keys)
    mixing = _mixing(queries, keys, chunks)
    scaled_keys = (keys * _rates_at_end(chunks)[..., None]).transpose(-2, -1)
    pulls, squared_scale = _pull(chunks), chunks.scale.square()
    outputs = []
    for i, (query, key, mix, scaled_key, pull) in enumerate(
        zip(queries.unbind(), keys.unbind(), mixing.unbind(), scaled_keys.unbind(), pulls.unbind(), strict=True)
    ):
        decay = _piece_decay(chunks, i)
        gradient = norm_gradient(torch.bmm(key, weight), pull, squared_scale, chunks.eps)
        outputs.append(torch.baddbmm(_read(query, weight, pending, 0, chunks, decay), mix, gradient, alpha=-1))
        (weight,), pending = _advance((weight,), pending, (torch.bmm(scaled_key, gradient),), chunks, decay)
    return _output(torch.stack(outputs), chunks), (weight,), pending


def scan_mlp(chunks: Chunks, weights: Matrices, pending: Matrices | None) -> ScanResult:
    """Run TTT-MLP, f(u) = u + norm(gelu(u W1 + b1) W2 + b2); arguments and results as in `scan_linear`."""
    first, second = weights
    queries, keys = append_one(chunks.queries), append_one(chunks.keys)
    mixing = _mixing(queries, keys, chunks)
    learning_rates = _rates_at_end(chunks)[..., None]
    pulls, squared_scale = _pull(chunks), chunks.scale.square()
    eta = _eta(chunks).tril()
    outputs = []
    for i in range(queries.shape[0]):
        decay = _piece_decay(chunks, i)
        before = torch.bmm(keys[i], first)
        activations = append_one(F.gelu(before, approximate="tanh"))
        outer = norm_gradient(torch.bmm(activations, second), pulls[i], squared_scale, chunks.eps)
        inner = torch.bmm(outer, second[:, :-1].transpose(1, 2)) * gelu_derivative(before)
        read = torch.baddbmm(_read(queries[i], first, pending, 0, chunks, decay), mixing[i], inner, alpha=-1)
        read = append_one(F.gelu(read, approximate="tanh"))
        mix = torch.bmm(read, activations.transpose(1, 2)) * eta[i]
        outputs.append(torch.baddbmm(_read(read, second, pending, 1, chunks, decay), mix, outer, alpha=-1))
        steps = (
            torch.bmm((keys[i] * learning_rates[i]).transpose(1, 2), inner),
            torch.bmm((activations * learning_rates[i]).transpose(1, 2), outer),
        )
        (first, second), pending = _advance((first, second), pending, steps, chunks, decay)
    return _output(torch.stack(outputs), chunks), (first, second), pending


def gelu_derivative(x: Tensor) -> Tensor:
    """Return the derivative of the tanh approximation of gelu."""
    slope = math.sqrt(2 / math.pi)
    squared = x * x
    tanh = torch.tanh(slope * x * (1 + 0.044715 * squared))
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * slope * (1 + 3 * 0.044715 * squared)


def _mixing(queries: Tensor, keys: Tensor, chunks: Chunks) -> Tensor:
    """Return how much the gradient of token j changes what token i reads: (N, M, C, C), lower triangular."""
    return (torch.matmul(queries, keys.transpose(-2, -1)) * _eta(chunks)).tril()


def _eta(chunks: Chunks) -> Tensor:
    """Return t_i l_j, times the share of the step of token j that token i sees: (N, M, C, C)."""
    eta = chunks.factors[:, None] * chunks.learning_rates[..., None, :]
    return eta if chunks.decay is None else eta * chunks.decay.between


def _rates_at_end(chunks: Chunks) -> Tensor:
    """Return l_j, times the share of the step of token j that is left at the end of its piece: (N, M, C)."""
    rates = chunks.learning_rates
    return rates if chunks.decay is None else rates * chunks.decay.to_end


def _piece_decay(chunks: Chunks, index: int) -> _PieceDecay | None:
    """Return what decays in one piece; None if nothing does."""
    decay = chunks.decay
    return None if decay is None else (decay.kept[index], decay.since_pending[index], decay.initial)


def _pull(chunks: Chunks) -> Tensor:
    """Return the `pull` of `norm_gradient`, (N, M, C, d): the target of a key is its value minus the key."""
    return chunks.scale * (chunks.shift - (chunks.values - chunks.keys))


def _read(
    inputs: Tensor,
    weight: Tensor,
    pending: Matrices | None,
    index: int,
    chunks: Chunks,
    decay: _PieceDecay | None,
) -> Tensor:
    """Read from the fast weights with inputs (M, C, e + 1), without the tokens of their own piece."""
    read = torch.bmm(inputs, weight)
    if decay is not None:
        read = torch.lerp(torch.bmm(inputs, decay[2][index]), read, decay[0])
    if pending is None:
        return read
    past = torch.bmm(inputs, pending[index])
    return read - chunks.factors[:, None] * (past if decay is None else past * decay[1])


def _advance(
    weights: Matrices, pending: Matrices | None, steps: Matrices, chunks: Chunks, decay: _PieceDecay | None
) -> tuple[Matrices, Matrices | None]:
    """Add the steps of a piece: apply all steps if the mini-batch ends, otherwise leave them pending."""
    if pending is not None and decay is not None:
        pending = tuple(before * decay[1][:, -1:] for before in pending)
    if pending is not None:
        steps = tuple(before + step for before, step in zip(pending, steps, strict=True))
    if not chunks.closes:
        return weights, steps
    if decay is not None:
        kept = decay[0][:, -1:]
        weights = tuple(torch.lerp(start, weight, kept) for start, weight in zip(decay[2], weights, strict=True))
    last = chunks.factors[-1]
    return tuple(weight - last * step for weight, step in zip(weights, steps, strict=True)), None


def _output(z: Tensor, chunks: Chunks) -> Tensor:
    """Return f of the queries, given the output z of the inner model before its norm."""
    normed = F.layer_norm(z, z.shape[-1:], eps=chunks.eps)
    return chunks.queries + torch.addcmul(chunks.shift, chunks.scale, normed)
