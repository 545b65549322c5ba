"""The inner loop of a TTT layer in its dual form: one matrix form per mini-batch, mini-batches in sequence.

Sun et al., "Learning to (Learn at Test Time)", section 2.5 and appendix A. `ttt_reference.py` is the same function
token by token. Shapes: M = batch x heads, N mini-batches, C tokens in each, d head width, e inner input width. A fast
weight matrix carries its bias as the last row, so inputs carry a 1 as their last column: (M, e + 1, columns).

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

Matrices = tuple[Tensor, ...]
"""Fast weights of the layers of the inner model."""

ScanResult = tuple[Tensor, Matrices, Matrices | None]
"""Outputs, weights at the start of the running mini-batch, what is pending in it (None: nothing)."""


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Inputs of N equal pieces of text; none of them crosses the border of a mini-batch."""

    queries: Tensor  # (N, M, C, d)
    keys: Tensor  # (N, M, C, d)
    values: Tensor  # (N, M, C, d)
    rates: Tensor  # (N, M, C): learning rate l_j of the source token
    factors: Tensor  # (C): position factor t_i of the querying token
    scale: Tensor  # (M, 1, d): scale of the inner norm
    shift: Tensor  # (M, 1, d): shift of the inner norm
    eps: float
    closes: bool  # whether every piece ends its mini-batch
    bf16: bool  # whether a GPU kernel rounds the operands of its products to bf16, as autocast has done with the inputs


def pieces(length: int, position: int, mini_batch: int, border: int | None) -> list[tuple[int, int, int]]:
    """Cut a segment from `position` on: the rest of the running mini-batch, all whole ones, the start of the last.

    Each is (start, stop, size): tokens of the segment, and how many of them belong to one mini-batch. The whole ones
    come at once, or are cut at every multiple of `border`, which is one of the mini-batch.
    """
    head = min(length, -position % mini_batch)
    body = head + (length - head) // mini_batch * mini_batch
    cuts = [] if border is None else range(head + -(position + head) % border, body, border)
    starts = sorted({head, *cuts})
    whole = [(start, stop, mini_batch) for start, stop in pairwise([*starts, body])]
    found = [(0, head, head), *whole, (body, length, length - body)]
    return [piece for piece in found if piece[1] > piece[0]]


def append_one(x: Tensor) -> Tensor:
    """(…, e) to (…, e + 1): the constant input that the bias row multiplies."""
    return F.pad(x, (0, 1), value=1.0)


def norm_gradient(z: Tensor, pull: Tensor, squared_scale: Tensor, eps: float) -> Tensor:
    """Gradient at z of the inner loss 1/2 |scale * norm(z) + shift - target|^2, (M, C, d).

    `pull` is scale * (shift - target), (M, C, d); `squared_scale` is (M, 1, d).
    """
    gradient: Tensor = _NormGradient.apply(z, pull, squared_scale, eps)
    return gradient


class _NormGradient(torch.autograd.Function):
    """`norm_gradient` with its derivative by hand: a third of the kernels that automatic differentiation would run.

    With n the normed z, r = 1/sqrt(var + eps), u = squared_scale n + pull and P x = x - mean(x) - n mean(n x), which is
    symmetric, the function is r P u.
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
        # normed is reached directly, as a factor in P, and through u
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
    """TTT-Linear, f(u) = u + norm(u W + b): outputs (N, M, C, d), then weights and pending sums afterwards.

    `weights` are those at the start of the mini-batch, `pending` what its earlier tokens add (None: no earlier tokens).
    """
    (weight,) = weights
    queries, keys = append_one(chunks.queries), append_one(chunks.keys)
    mixing = _mixing(queries, keys, chunks)
    rated_keys = (keys * chunks.rates[..., None]).transpose(-2, -1)
    pull, squared_scale = _pull(chunks), chunks.scale.square()
    outputs = []
    for query, key, mix, rated, drag in zip(
        queries.unbind(), keys.unbind(), mixing.unbind(), rated_keys.unbind(), pull.unbind(), strict=True
    ):
        gradient = norm_gradient(torch.bmm(key, weight), drag, squared_scale, chunks.eps)
        outputs.append(torch.baddbmm(_read(query, weight, pending, 0, chunks), mix, gradient, alpha=-1))
        (weight,), pending = _advance((weight,), pending, (torch.bmm(rated, gradient),), chunks)
    return _output(torch.stack(outputs), chunks), (weight,), pending


def scan_mlp(chunks: Chunks, weights: Matrices, pending: Matrices | None) -> ScanResult:
    """TTT-MLP, f(u) = u + norm(gelu(u W1 + b1) W2 + b2); arguments and results as in `scan_linear`."""
    first, second = weights
    queries, keys = append_one(chunks.queries), append_one(chunks.keys)
    mixing = _mixing(queries, keys, chunks)
    rates = chunks.rates[..., None]
    pull, squared_scale = _pull(chunks), chunks.scale.square()
    eta = (chunks.factors[:, None] * chunks.rates[..., None, :]).tril()
    outputs = []
    for i in range(queries.shape[0]):
        before = torch.bmm(keys[i], first)
        hidden = append_one(F.gelu(before, approximate="tanh"))
        outer = norm_gradient(torch.bmm(hidden, second), pull[i], squared_scale, chunks.eps)
        inner = torch.bmm(outer, second[:, :-1].transpose(1, 2)) * gelu_derivative(before)
        reached = torch.baddbmm(_read(queries[i], first, pending, 0, chunks), mixing[i], inner, alpha=-1)
        reached = append_one(F.gelu(reached, approximate="tanh"))
        mix = torch.bmm(reached, hidden.transpose(1, 2)) * eta[i]
        outputs.append(torch.baddbmm(_read(reached, second, pending, 1, chunks), mix, outer, alpha=-1))
        steps = (
            torch.bmm((keys[i] * rates[i]).transpose(1, 2), inner),
            torch.bmm((hidden * rates[i]).transpose(1, 2), outer),
        )
        (first, second), pending = _advance((first, second), pending, steps, chunks)
    return _output(torch.stack(outputs), chunks), (first, second), pending


def gelu_derivative(x: Tensor) -> Tensor:
    """Derivative of the tanh approximation of gelu."""
    slope = math.sqrt(2 / math.pi)
    squared = x * x
    tanh = torch.tanh(slope * x * (1 + 0.044715 * squared))
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * slope * (1 + 3 * 0.044715 * squared)


def _mixing(queries: Tensor, keys: Tensor, chunks: Chunks) -> Tensor:
    """How much the gradient of token j changes what token i reads: (N, M, C, C), lower triangular."""
    eta = chunks.factors[:, None] * chunks.rates[..., None, :]
    return (torch.matmul(queries, keys.transpose(-2, -1)) * eta).tril()


def _pull(chunks: Chunks) -> Tensor:
    return chunks.scale * (chunks.shift - (chunks.values - chunks.keys))


def _read(inputs: Tensor, weight: Tensor, pending: Matrices | None, index: int, chunks: Chunks) -> Tensor:
    """What inputs (M, C, e + 1) read from the fast weights before their own piece is counted."""
    read = torch.bmm(inputs, weight)
    if pending is None:
        return read
    return read - chunks.factors[:, None] * torch.bmm(inputs, pending[index])


def _advance(
    weights: Matrices, pending: Matrices | None, steps: Matrices, chunks: Chunks
) -> tuple[Matrices, Matrices | None]:
    """Count a piece: apply everything where the mini-batch ends, else leave it pending."""
    if pending is not None:
        steps = tuple(before + step for before, step in zip(pending, steps, strict=True))
    if not chunks.closes:
        return weights, steps
    last = chunks.factors[-1]
    return tuple(weight - last * step for weight, step in zip(weights, steps, strict=True)), None


def _output(z: Tensor, chunks: Chunks) -> Tensor:
    normed = F.layer_norm(z, z.shape[-1:], eps=chunks.eps)
    return chunks.queries + torch.addcmul(chunks.shift, chunks.scale, normed)
