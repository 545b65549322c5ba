"""The state space duality of Mamba-2 (Dao and Gu, arXiv 2405.21060).

    S <- exp(A dt_t) S + dt_t x_t B_t^T
    y_t = S C_t + D x_t

Shapes: B batch, T tokens, H heads of width P, G groups of H / G heads that share B and C, N state width, L chunks of C
tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttkit.models.operators.chunks import chunk_sizes, cut, decay_between, in_full_precision, join, segments

_CHUNK = 64


def mamba2_ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the outputs (B, T, H, P), in the dtype of x, and the state (B, H, P, N) after the text.

    `x` is (B, T, H, P), the time steps `dt` (B, T, H), above 0, after bias and softplus; `A` (H), below 0, `B` and `C`
    (B, T, G, N), `D` (H). Head h uses group h // (H / G). `initial_state` None means zeros.
    """
    y, state = _chunked(x, dt, A, B, C, D, initial_state)
    return y.to(x.dtype), state


def mamba2_ssd_reference(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, initial_state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute `mamba2_ssd` token by token."""
    y, state = _token_by_token(x, dt, A, B, C, D, initial_state)
    return y.to(x.dtype), state


@in_full_precision
def _token_by_token(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    repeats = x.shape[2] // B.shape[2]
    B, C = (group.repeat_interleave(repeats, dim=2) for group in (B, C))
    state = _start(x, B, initial_state)
    outputs = []
    for t in range(x.shape[1]):
        decay = (A * dt[:, t]).exp()[..., None, None]
        state = decay * state + (dt[:, t, :, None] * x[:, t])[..., :, None] * B[:, t, :, None, :]
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, C[:, t]) + D[:, None] * x[:, t])
    return torch.stack(outputs, dim=1), state


@in_full_precision
def _chunked(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    state = _start(x, B, initial_state)
    outputs = []
    for part in segments(x.shape[1]):
        y, state = _segment(x[:, part], dt[:, part], A, B[:, part], C[:, part], state)
        outputs.append(y)
    y = torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]
    return y + D[:, None] * x, state


def _start(x: Tensor, B: Tensor, initial_state: Tensor | None) -> Tensor:
    if initial_state is not None:
        return initial_state
    return x.new_zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3])


def _segment(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Process a segment in chunks, without the term with D.

    The heads of a group share B and C, so their states are stacked and read in one product.
    """
    batch, length, heads, width = x.shape
    groups = B.shape[2]
    num, size = chunk_sizes(length, _CHUNK)
    x, log_decay = cut(x * dt[..., None], num, size), cut(A * dt, num, size)
    B, C = cut(B, num, size), cut(C, num, size)  # (B, G, L, C, N)
    between = decay_between(log_decay)  # (B, H, L, C, C)
    grouped = (groups, heads // groups)
    scores = (C @ B.mT)[:, :, None] * torch.unflatten(between, 1, grouped)
    within = scores.flatten(1, 2) @ x
    # (B, G, L, C, heads x P): what each token leaves in the state at the end of its chunk
    left = _stack(x * between[..., -1, :, None], grouped)
    added = left.mT @ B
    since_start = log_decay.cumsum(-1).exp()  # (B, H, L, C)
    kept = torch.unflatten(since_start[..., -1], 1, grouped).repeat_interleave(width, dim=2)  # (B, G, heads x P, L)
    stacked = state.view(batch, groups, -1, state.shape[-1])
    starts = []
    for n in range(num):
        starts.append(stacked)
        stacked = stacked * kept[..., n, None] + added[:, :, n]
    carried = C @ torch.stack(starts, dim=2).mT  # (B, G, L, C, heads x P)
    carried = torch.unflatten(carried, -1, (-1, width)).movedim(-2, 2).flatten(1, 2)
    return join(within + carried * since_start[..., None], length), stacked.view(state.shape)


def _stack(x: Tensor, grouped: tuple[int, int]) -> Tensor:
    """Put the heads of a group beside each other: (B, H, L, C, P) to (B, G, L, C, heads x P)."""
    return torch.unflatten(x, 1, grouped).movedim(2, -2).flatten(-2)
