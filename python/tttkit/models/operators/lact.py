"""Large-chunk Test-Time Training (Zhang et al., arXiv 2505.23884): a SwiGLU that learns once per chunk.

The memory is f(x) = w1 (silu(w0 x) * (w2 x)). All tokens of a chunk read the weights that the chunk before it left;
when the chunk is complete, one step of ascent on the dot product of f(k) and v, summed over its tokens, changes them:

    G_i = sum_t lr_i,t d(v_t^T f(k_t)) / dw_i
    G_i <- G_i + mean_t(momentum_t) M_i,  M_i <- G_i          with momentum
    w_i <- w_i + G_i, or w_i + NewtonSchulz(G_i)              with Muon
    w_i <- w_i / (norms of its rows) * (norms of the rows of the initial w_i)

Shapes: B batch, T tokens, H heads, dk, dv, dh widths of key, value and hidden layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tttkit.models.operators.chunks import in_full_precision

Matrices = tuple[Tensor, ...]
LactState = dict[str, Any]
"""Weights `w0`, `w1`, `w2` (with `prenorm` also the accumulated `w0_main` …), with momentum `m0`, `m1`, `m2`; of the
running chunk the sums `g0`, `g1`, `g2` of rate times gradient, with momentum `momentum`, the sum of momenta (B, H), and
`count`, its tokens so far, an integer."""

_EPS = 1e-5
_NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


def lact(
    w0: Tensor,
    w1: Tensor,
    w2: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lr0: Tensor,
    lr1: Tensor,
    lr2: Tensor,
    momentum: Tensor | None = None,
    *,
    chunk: int,
    muon: bool = False,
    prenorm: bool = False,
    state: LactState | None = None,
    update_last: bool = True,
) -> tuple[Tensor, LactState]:
    """Return the reads (B, T, H, dv), in the dtype of v, and the state after the text.

    The initial weights are `w0` and `w2` (B, H, dh, dk) and `w1` (B, H, dv, dh); they also give the norms of rows, so a
    text that continues from a `state` passes them again. `q` and `k` are (B, T, H, dk), `v` (B, T, H, dv); the rates
    `lr0`, `lr1`, `lr2`, above 0, and `momentum`, in 0 … 1, are (B, T, H). With `prenorm`, the weights accumulate
    without being rescaled, and a rescaled copy is read and learns. `update_last` False saves the last update of a text
    that ends with a chunk; the state is then not valid.
    """
    options = _Options(chunk, muon, prenorm, update_last)
    read, after = _chunked((w0, w1, w2), q, k, v, (lr0, lr1, lr2), momentum, options, state)
    return read.to(v.dtype), after


def lact_reference(
    w0: Tensor,
    w1: Tensor,
    w2: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lr0: Tensor,
    lr1: Tensor,
    lr2: Tensor,
    momentum: Tensor | None = None,
    *,
    chunk: int,
    muon: bool = False,
    prenorm: bool = False,
    state: LactState | None = None,
) -> tuple[Tensor, LactState]:
    """Compute `lact` token by token."""
    options = _Options(chunk, muon, prenorm)
    read, after = _token_by_token((w0, w1, w2), q, k, v, (lr0, lr1, lr2), momentum, options, state)
    return read.to(v.dtype), after


class _Options(NamedTuple):
    chunk: int
    muon: bool
    prenorm: bool
    update_last: bool = True


@in_full_precision
def _token_by_token(
    initial: Matrices,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rates: Matrices,
    momentum: Tensor | None,
    options: _Options,
    state: LactState | None,
) -> tuple[Tensor, LactState]:
    state = _start(initial, momentum, options, state)
    norms = _row_norms(initial)
    reads = []
    for t in range(q.shape[1]):
        w0, w1, w2 = (state[f"w{i}"] for i in range(3))
        query, key, value = (x[:, t, :, :, None] for x in (q, k, v))  # (B, H, d, 1)
        reads.append((w1 @ (F.silu(w0 @ query) * (w2 @ query))).squeeze(-1))
        before_gate, linear, back = w0 @ key, w2 @ key, w1.mT @ value
        gate = before_gate.sigmoid()
        slope = gate * (1 + before_gate * (1 - gate))
        gradients = (
            (back * linear * slope) @ key.mT,
            value @ (before_gate * gate * linear).mT,
            (back * before_gate * gate) @ key.mT,
        )
        for i, gradient in enumerate(gradients):
            state[f"g{i}"] = state[f"g{i}"] + rates[i][:, t, :, None, None] * gradient
        if momentum is not None:
            state["momentum"] = state["momentum"] + momentum[:, t]
        state["count"] += 1
        if state["count"] == options.chunk:
            state = _update(state, norms, options)
    return torch.stack(reads, dim=1), state


@in_full_precision
def _chunked(
    initial: Matrices,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rates: Matrices,
    momentum: Tensor | None,
    options: _Options,
    state: LactState | None,
) -> tuple[Tensor, LactState]:
    state = _start(initial, momentum, options, state)
    norms = _row_norms(initial)
    length, at = q.shape[1], 0
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, d)
    rates = tuple(rate.transpose(1, 2)[..., None] for rate in rates)
    reads = []
    while at < length:
        part = slice(at, min(at + options.chunk - state["count"], length))
        at = part.stop
        reads.append(_read(state, q[:, :, part]))
        if at == length and not options.update_last:
            break
        gradients = _gradients(state, k[:, :, part], v[:, :, part], [rate[:, :, part] for rate in rates])
        for i, gradient in enumerate(gradients):
            state[f"g{i}"] = state[f"g{i}"] + gradient
        if momentum is not None:
            state["momentum"] = state["momentum"] + momentum[:, part].sum(1)
        state["count"] += part.stop - part.start
        if state["count"] == options.chunk:
            state = _update(state, norms, options)
    joined = reads[0] if len(reads) == 1 else torch.cat(reads, dim=2)
    return joined.transpose(1, 2), state


def _start(initial: Matrices, momentum: Tensor | None, options: _Options, state: LactState | None) -> LactState:
    """Return a copy of the state at the start of the text; tensors are never changed in place."""
    if state is not None:
        return {
            name: value.to(initial[0].dtype) if isinstance(value, Tensor) else value for name, value in state.items()
        }
    started: LactState = {f"w{i}": weight for i, weight in enumerate(initial)}
    started.update(_nothing_gathered(initial, momentum is not None))
    if options.prenorm:
        started.update({f"w{i}_main": weight for i, weight in enumerate(initial)})
    if momentum is not None:
        started.update({f"m{i}": torch.zeros_like(weight) for i, weight in enumerate(initial)})
    return started


def _nothing_gathered(like: Matrices, has_momentum: bool) -> LactState:
    gathered: LactState = {f"g{i}": torch.zeros_like(weight) for i, weight in enumerate(like)}
    if has_momentum:
        gathered["momentum"] = like[0].new_zeros(like[0].shape[:2])
    return {**gathered, "count": 0}


def _row_norms(weights: Matrices) -> Matrices:
    return tuple(weight.norm(dim=-1, keepdim=True) for weight in weights)


def _read(state: LactState, q: Tensor) -> Tensor:
    """Return f(q), (B, H, T, dv), for queries (B, H, T, dk)."""
    hidden = F.silu(q @ state["w0"].mT) * (q @ state["w2"].mT)
    read: Tensor = hidden @ state["w1"].mT
    return read


def _gradients(state: LactState, k: Tensor, v: Tensor, rates: list[Tensor]) -> Matrices:
    """Return the sums over T of rate times gradient, for keys and values (B, H, T, d) and rates (B, H, T, 1)."""
    before_gate, linear, back = k @ state["w0"].mT, k @ state["w2"].mT, v @ state["w1"]
    gate = before_gate.sigmoid()
    activated = before_gate * gate
    slope = gate + activated * (1 - gate)
    return (
        (back * linear * slope * rates[0]).mT @ k,
        v.mT @ (activated * linear * rates[1]),
        (back * activated * rates[2]).mT @ k,
    )


def _update(state: LactState, norms: Matrices, options: _Options) -> LactState:
    """Return the state after the step that ends a chunk."""
    after = {name: value for name, value in state.items() if name.endswith("_main")}
    main = "_main" if options.prenorm else ""
    weights = []
    for i, norm in enumerate(norms):
        gradient = state[f"g{i}"]
        if "momentum" in state:
            gradient = gradient + (state["momentum"] / options.chunk)[..., None, None] * state[f"m{i}"]
            after[f"m{i}"] = gradient
        weight = state[f"w{i}{main}"] + (newton_schulz(gradient) if options.muon else gradient)
        if options.prenorm:
            after[f"w{i}_main"] = weight
        weights.append(weight / (weight.norm(dim=-1, keepdim=True) + _EPS) * norm)
        after[f"w{i}"] = weights[-1]
    return {**after, **_nothing_gathered(tuple(weights), "momentum" in state)}


def newton_schulz(gradient: Tensor) -> Tensor:
    """Bring the singular values of (…, rows, columns) close to 1 in five steps, the step of Muon."""
    wide = gradient.mT if gradient.shape[-2] > gradient.shape[-1] else gradient
    x = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in _NEWTON_SCHULZ:
        products = x @ x.mT
        x = a * x + (b * products + c * (products @ products)) @ x
    step: Tensor = x.mT if gradient.shape[-2] > gradient.shape[-1] else x
    return step
