"""The linear memory of Titans (Behrouz et al., arXiv 2501.00663): gradient descent with momentum and forgetting.

The memory M minimises |M^T k - v|^2, summed over features. M* is M at the start of the current mini-batch of `chunk`
tokens, so with a mini-batch of one token it is the memory that the previous token left.

    Z <- eta_t Z - 2 theta_t k_t (M*^T k_t - v_t)^T
    M <- (1 - alpha_t) M + Z
    o_t = M^T q_t

Shapes: B batch, T tokens, H heads, dk and dv widths, N chunks of C tokens. A chunk holds whole mini-batches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttkit.models.operators.chunks import cut, in_full_precision, join, later, segments, solve_unit_lower

_CHUNK = 32
"""Tokens of a chunk, if the mini-batch is not longer."""


class TitansState(tuple[Tensor, Tensor]):
    """Memory M and momentum Z, (B, H, dk, dv) each; attributes hold what a mini-batch that is not complete needs."""

    started: Tensor
    """M*, the memory at the start of the running mini-batch, (B, H, dk, dv)."""
    offset: int
    """Tokens of the running mini-batch that are read already, 0 … chunk - 1."""

    @classmethod
    def of(cls, memory: Tensor, momentum: Tensor, started: Tensor, offset: int) -> TitansState:
        """Build a state."""
        state = cls((memory, momentum))
        state.started, state.offset = started, offset
        return state


def titans(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    eta: Tensor,
    alpha: Tensor,
    *,
    chunk: int = 1,
    initial_state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, TitansState]:
    """Return the reads (B, T, H, dv), in the dtype of v, and the state after the text: the pair (M, Z).

    `q` and `k` are (B, T, H, dk), `v` (B, T, H, dv); the learning rates `theta`, the momentum `eta` and the forgetting
    `alpha` are (B, T, H). `initial_state` is a returned state, or a plain pair (M, Z) at the start of a mini-batch;
    None means zeros.
    """
    read, state = _chunked(q, k, v, theta, eta, alpha, chunk, initial_state)
    return read.to(v.dtype), state


def titans_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    eta: Tensor,
    alpha: Tensor,
    *,
    chunk: int = 1,
    initial_state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, TitansState]:
    """Compute `titans` token by token."""
    read, state = _token_by_token(q, k, v, theta, eta, alpha, chunk, initial_state)
    return read.to(v.dtype), state


@in_full_precision
def _token_by_token(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    eta: Tensor,
    alpha: Tensor,
    chunk: int,
    initial_state: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, TitansState]:
    memory, momentum, started, offset = _start(k, v, initial_state)
    reads = []
    for t in range(k.shape[1]):
        if offset == 0:
            started = memory
        error = torch.einsum("bhkv,bhk->bhv", started, k[:, t]) - v[:, t]
        rate, kept, forgotten = (x[:, t, :, None, None] for x in (theta, eta, alpha))
        momentum = kept * momentum - 2 * rate * k[:, t, :, :, None] * error[..., None, :]
        memory = (1 - forgotten) * memory + momentum
        reads.append(torch.einsum("bhkv,bhk->bhv", memory, q[:, t]))
        offset = (offset + 1) % chunk
    return torch.stack(reads, dim=1), TitansState.of(memory, momentum, started, offset)


@in_full_precision
def _chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    eta: Tensor,
    alpha: Tensor,
    chunk: int,
    initial_state: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, TitansState]:
    """Cut the text into the rest of a mini-batch, runs of chunks of whole mini-batches, and the start of another."""
    memory, momentum, started, offset = _start(k, v, initial_state)
    length, at = k.shape[1], 0
    reads = []
    while at < length:
        if offset == 0:
            started = memory
        num, size, mini_batch = _next_run(length - at, chunk, offset)
        part = slice(at, at + num * size)
        inputs = [x[:, part] for x in (q, k, v, theta, eta, alpha)]
        read, memory, momentum = _run(inputs, (num, size, mini_batch), memory, momentum, started)
        reads.append(read)
        offset = (offset + num * size) % chunk
        at += num * size
    joined = reads[0] if len(reads) == 1 else torch.cat(reads, dim=1)
    return joined, TitansState.of(memory, momentum, started, offset)


def _start(k: Tensor, v: Tensor, initial_state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return M, Z, M* and the offset at the start of the text."""
    if initial_state is None:
        zeros = k.new_zeros(k.shape[0], k.shape[2], k.shape[3], v.shape[3])
        return zeros, zeros, zeros, 0
    memory, momentum = (x.to(k.dtype) for x in initial_state)
    if isinstance(initial_state, TitansState):
        return memory, momentum, initial_state.started.to(k.dtype), initial_state.offset
    return memory, momentum, memory, 0


def _next_run(length: int, chunk: int, offset: int) -> tuple[int, int, int]:
    """Return how many chunks of which size come next, and their mini-batch; 0 says that M* does not change in them."""
    if offset or length < chunk:
        return 1, min(chunk - offset, length), 0
    if chunk >= _CHUNK:
        return 1, chunk, 0
    size = _CHUNK // chunk * chunk
    if length >= size:
        return max(1, next(segments(length)).stop // size), size, chunk
    return 1, length // chunk * chunk, chunk


def _run(
    inputs: list[Tensor], sizes: tuple[int, int, int], memory: Tensor, momentum: Tensor, started: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Process a run of chunks: return the reads (B, T, H, dv), and memory and momentum after it.

    With u_t the change that token t makes to the momentum along its key, memory and momentum after token i of a chunk
    are sums over the memory, the momentum at the start of the chunk, and the outer products k_j u_j^T of the tokens
    j <= i. `from_memory`, `from_momentum` and `changes` hold the factors. The errors then solve a triangular system.
    """
    num, size, mini_batch = sizes
    q, k, v = (cut(x, num, size) for x in inputs[:3])
    theta, eta, alpha = (cut(x, num, size) for x in inputs[3:])
    memory_kept, momentum_kept = _product_between(1 - alpha), _product_between(eta)
    from_memory = memory_kept[..., 0] * (1 - alpha[..., :1])
    momentum_left = momentum_kept[..., 0] * eta[..., :1]
    from_momentum = (memory_kept @ momentum_left[..., None]).squeeze(-1)
    changes = memory_kept @ momentum_kept  # (B, H, N, i, j)
    scores = (q @ k.mT) * changes
    both = torch.cat((q * from_memory[..., None], q * from_momentum[..., None]), dim=-1)
    rates = 2 * theta[..., None]
    checks = None
    corrections = rates * v
    if mini_batch:
        # a token's error is taken at the last token before its mini-batch
        index = torch.arange(size, device=q.device) // mini_batch * mini_batch
        rows = [_rows_before(x, index) for x in (changes, from_memory[..., None], from_momentum[..., None])]
        rows[1] = rows[1] + (index == 0)[:, None]
        checks = torch.cat((k * rates * rows[1], k * rates * rows[2]), dim=-1)
        if mini_batch < size:
            solved = solve_unit_lower((k * rates) @ k.mT * rows[0], torch.cat((corrections, checks), dim=-1))
            corrections, checks = torch.split(solved, [v.shape[-1], 2 * k.shape[-1]], dim=-1)
    memory_keys, momentum_keys = k * changes[..., -1, :, None], k * momentum_kept[..., -1, :, None]
    reads = []
    for n in range(num):
        state = torch.cat((memory, momentum), dim=-2)
        if checks is None:
            u = corrections[:, :, n] - (rates * k)[:, :, n] @ started
        else:
            u = corrections[:, :, n] - checks[:, :, n] @ state
        reads.append(both[:, :, n] @ state + scores[:, :, n] @ u)
        kept = [x[:, :, n, -1, None, None] for x in (from_memory, from_momentum, momentum_left)]
        memory = kept[0] * memory + kept[1] * momentum + memory_keys[:, :, n].mT @ u
        momentum = kept[2] * momentum + momentum_keys[:, :, n].mT @ u
    return join(torch.stack(reads, dim=2), num * size), memory, momentum


def _product_between(factors: Tensor) -> Tensor:
    """Return the product of the factors of the tokens j + 1 … i, (…, C) to (…, i, j), and zero for j > i.

    Products, unlike sums of logarithms, also hold for a factor of zero.
    """
    size = factors.shape[-1]
    future = later(size, factors.device)
    unused = future | torch.eye(size, dtype=torch.bool, device=factors.device)
    return factors[..., :, None].masked_fill(unused, 1.0).cumprod(-2).masked_fill(future, 0.0)


def _rows_before(x: Tensor, index: Tensor) -> Tensor:
    """Return the rows `index` - 1 of (…, C, n), and zeros for an index of 0."""
    rows = x.index_select(-2, (index - 1).clamp_min(0))
    return rows.masked_fill((index == 0)[:, None], 0.0)
