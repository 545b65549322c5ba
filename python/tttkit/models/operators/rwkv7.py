"""The recurrence of RWKV-7 (Peng et al., arXiv 2503.14456), a delta rule that forgets per channel.

    S <- diag(exp(w_t)) S - (a_t * kk_t) (kk_t^T S) + k_t v_t^T      every S on the right is the one before the token
    o_t = S^T r_t

Shapes: B batch, T tokens, H heads, dk and dv widths, N chunks of C tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tttkit.models.operators.chunks import cut, in_full_precision, join, segments, solve_unit_lower

_CHUNK = 32


def rwkv7(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor, *, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the reads (B, T, H, dv), in the dtype of v, and the state (B, H, dk, dv) after the text.

    `r`, `k`, `kk` (of length 1), the log decays `w`, at most 0, and the rates `a`, in 0 … 1, are (B, T, H, dk); `v` is
    (B, T, H, dv). `initial_state` None means zeros.
    """
    read, state = _chunked(r, w, k, v, kk, a, initial_state)
    return read.to(v.dtype), state


def rwkv7_reference(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor, *, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute `rwkv7` token by token."""
    read, state = _token_by_token(r, w, k, v, kk, a, initial_state)
    return read.to(v.dtype), state


@in_full_precision
def _token_by_token(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    state = _start(k, v, initial_state)
    reads = []
    for t in range(k.shape[1]):
        removed = torch.einsum("bhk,bhkv->bhv", kk[:, t], state)
        state = (
            w[:, t].exp()[..., None] * state
            - (a[:, t] * kk[:, t])[..., None] * removed[..., None, :]
            + k[:, t, ..., None] * v[:, t, :, None]
        )
        reads.append(torch.einsum("bhk,bhkv->bhv", r[:, t], state))
    return torch.stack(reads, dim=1), state


@in_full_precision
def _chunked(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    state = _start(k, v, initial_state)
    removers = a * kk
    reads = []
    for part in segments(k.shape[1]):
        read, state = _segment([x[:, part] for x in (r, w, k, v, kk, removers)], state)
        reads.append(read)
    return torch.cat(reads, dim=1) if len(reads) > 1 else reads[0], state


def _start(k: Tensor, v: Tensor, initial_state: Tensor | None) -> Tensor:
    return k.new_zeros(*k.shape[:1], *k.shape[2:], v.shape[-1]) if initial_state is None else initial_state


def _segment(inputs: list[Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
    """Process a segment in chunks.

    What the tokens remove, p_i = kk_i^T S, solves a triangular system, because each depends on the earlier ones.
    """
    length = inputs[0].shape[1]
    num = -(-length // _CHUNK)
    size = 1 << (-(-length // num) - 1).bit_length()
    num = -(-length // size)
    r, w, k, v, kk, removers = (cut(x, num, size) for x in inputs)
    total = w.cumsum(-2)  # (B, H, N, C, dk)
    # kk_i meets the state before token i, so it stands in row i - 1
    queries = torch.stack((r, F.pad(kk[..., 1:, :], (0, 0, 0, 1))), dim=-3)
    products = decayed_products(
        queries[..., :, None, :, :], torch.stack((k, removers), dim=-3)[..., None, :, :, :], total
    )
    of_reads, of_checks = products[..., 0, :, :, :], F.pad(products[..., 1, :, :-1, :], (0, 0, 1, 0))
    right = torch.cat((of_checks[..., 0, :, :] @ v, kk * (total - w).exp()), dim=-1)
    solved = solve_unit_lower(of_checks[..., 1, :, :], right)
    removed, state_checks = torch.split(solved, [v.shape[-1], k.shape[-1]], dim=-1)
    within = of_reads[..., 0, :, :] @ v
    at_end = (total[..., -1:, :] - total).exp()
    kept = total[..., -1, :, None].exp()
    reads, added, removers = r * total.exp(), (k * at_end).mT @ v, (removers * at_end).mT
    outputs = []
    for n in range(num):
        p = removed[:, :, n] + state_checks[:, :, n] @ state
        outputs.append(reads[:, :, n] @ state + within[:, :, n] - of_reads[:, :, n, 1] @ p)
        state = kept[:, :, n] * state + added[:, :, n] - removers[:, :, n] @ p
    return join(torch.stack(outputs, dim=2), length), state


def decayed_products(queries: Tensor, keys: Tensor, total: Tensor) -> Tensor:
    """Return sum_c queries_ic exp(total_ic - total_jc) keys_jc for all j <= i, and zero for j > i: (…, M, N, C, C).

    `queries` is (…, M, 1, C, d), `keys` (…, 1, N, C, d), `total`, a cumulative sum that never rises, (…, C, d); C is a
    power of two. Pairs whose tokens lie in different halves are a matrix product, with exponents relative to the last
    token of the first half: both are at most 0, so nothing overflows. The halves are cut in halves in turn.
    """
    size = queries.shape[-2]
    products = (queries * keys).sum(-1)[..., None, None]
    width = 1
    total = total[..., None, None, :, :]
    while width < size:
        halves = (size // (2 * width), 2, width)
        q, k, at = (torch.unflatten(x, -2, halves) for x in (queries, keys, total))
        border = at[..., 0, -1:, :]
        late = q[..., 1, :, :] * (at[..., 1, :, :] - border).exp()
        early = k[..., 0, :, :] * (border - at[..., 0, :, :]).exp()
        across = late @ early.mT
        first, second = torch.unflatten(products, -3, halves[:2]).unbind(-3)
        top = torch.cat((first, torch.zeros_like(first)), dim=-1)
        products = torch.cat((top, torch.cat((across, second), dim=-1)), dim=-2)
        width *= 2
    return products.squeeze(-3)
