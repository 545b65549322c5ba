"""The gated delta rule (Yang et al., arXiv 2412.06464), and without decay DeltaNet (arXiv 2406.06484).

The state is a matrix that maps keys to values. Every token first lets it decay, then corrects what it returns for the
token's key, then reads it:

    S <- exp(g_t) S
    S <- S + k_t beta_t (v_t - S^T k_t)^T
    o_t = S^T q_t / sqrt(dk)

Shapes: B batch, T tokens, Hk key heads, Hv value heads, a multiple of Hk; dk and dv widths; N chunks of C tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttkit.models.operators.chunks import (
    chunk_sizes,
    cut,
    decay_between,
    in_full_precision,
    join,
    segments,
    solve_unit_lower,
)

_CHUNK = 64


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    l2norm_q_k: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the reads (B, T, Hv, dv), in the dtype of v, and the state (B, Hv, dk, dv) after the text.

    `q` and `k` are (B, T, Hk, dk), `v` (B, T, Hv, dv), the rates `beta` (B, T, Hv) and the log decays `g` (B, T, Hv),
    at most 0; None means no decay. Value head h uses key head h // (Hv / Hk). With `l2norm_q_k`, q and k are brought to
    length 1 first. `initial_state` None means zeros.
    """
    read, state = _chunked(q, k, v, beta, g, initial_state, l2norm_q_k)
    return read.to(v.dtype), state


def gated_delta_rule_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    g: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    l2norm_q_k: bool = True,
) -> tuple[Tensor, Tensor]:
    """Compute `gated_delta_rule` token by token."""
    read, state = _token_by_token(q, k, v, beta, g, initial_state, l2norm_q_k)
    return read.to(v.dtype), state


@in_full_precision
def _token_by_token(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor | None, initial_state: Tensor | None, l2norm_q_k: bool
) -> tuple[Tensor, Tensor]:
    q, k, state = _prepare(q, k, v, initial_state, l2norm_q_k)
    reads = []
    for t in range(q.shape[1]):
        query, key, value, rate = q[:, t], k[:, t], v[:, t], beta[:, t, :, None]
        if g is not None:
            state = state * g[:, t].exp()[..., None, None]
        error = rate * (value - torch.einsum("bhkv,bhk->bhv", state, key))
        state = state + key[..., :, None] * error[..., None, :]
        reads.append(torch.einsum("bhkv,bhk->bhv", state, query))
    return torch.stack(reads, dim=1), state


@in_full_precision
def _chunked(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor | None, initial_state: Tensor | None, l2norm_q_k: bool
) -> tuple[Tensor, Tensor]:
    q, k, state = _prepare(q, k, v, initial_state, l2norm_q_k)
    reads = []
    for part in segments(q.shape[1]):
        log_decay = None if g is None else g[:, part]
        read, state = _segment(q[:, part], k[:, part], v[:, part], beta[:, part], log_decay, state)
        reads.append(read)
    return torch.cat(reads, dim=1) if len(reads) > 1 else reads[0], state


def _prepare(
    q: Tensor, k: Tensor, v: Tensor, initial_state: Tensor | None, l2norm_q_k: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scaled queries and the keys, (B, T, Hv, dk) each, and the state at the start (B, Hv, dk, dv)."""
    width, repeats = q.shape[-1], v.shape[2] // k.shape[2]
    scale: Tensor | float = width**-0.5
    if l2norm_q_k:
        q, k = (x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for x in (q, k))
    q = q * scale
    if repeats > 1:
        q, k = (x.repeat_interleave(repeats, dim=2) for x in (q, k))
    if initial_state is None:
        initial_state = k.new_zeros(v.shape[0], v.shape[2], width, v.shape[3])
    return q, k, initial_state


def _segment(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    """Process a segment in chunks.

    Within a chunk, the corrections u_i = beta_i (v_i - S^T k_i) of all tokens solve a triangular system, because each
    depends on the earlier ones through the products of keys. What of it does not need the state at the start of the
    chunk is computed for all chunks at once.
    """
    length = q.shape[1]
    num, size = chunk_sizes(length, _CHUNK)
    q, k, v, beta = (cut(x, num, size) for x in (q, k, v, beta[..., None]))
    key_rates = k * beta
    products, scores = key_rates @ k.mT, q @ k.mT
    kept = None
    if g is None:
        scores, key_reads = scores.tril(), key_rates
        keys = k
    else:
        g = cut(g, num, size)
        between = decay_between(g)
        since_start = g.cumsum(-1).exp()[..., None]
        products, scores = products * between, scores * between
        key_reads, q = key_rates * since_start, q * since_start
        keys = k * between[..., -1, :, None]
        kept = since_start[..., -1:, :]
    solved = solve_unit_lower(products, torch.cat((v * beta, key_reads), dim=-1))
    corrections, key_reads = torch.split(solved, [v.shape[-1], k.shape[-1]], dim=-1)
    reads = []
    for n in range(num):
        u = corrections[:, :, n] - key_reads[:, :, n] @ state
        reads.append(q[:, :, n] @ state + scores[:, :, n] @ u)
        state = (state if kept is None else state * kept[:, :, n]) + keys[:, :, n].mT @ u
    return join(torch.stack(reads, dim=2), length), state
