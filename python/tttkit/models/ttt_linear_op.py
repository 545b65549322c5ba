"""The TTT-Linear scan as a torch operator for autograd and torch.compile, computed by the Triton kernels.

Shapes as in `ttt_inner.py`: N mini-batches, M = batch x heads, C tokens, d head width. All tensors are float32 and
contiguous. Importing this module needs Triton.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tttkit.models.ttt_inner import Chunks, Matrices, ScanResult
from tttkit.models.ttt_triton import backward_kernel, forward_kernel

_MIN_TILE = 16
"""Smallest extent of the tiles in a Triton product."""
OPTIONS = {"enable_fp_fusion": True}
"""Compiler options: one instruction for product and sum. Without it Triton 3.9 warns and 3.10 uses two instructions."""
BACKWARD_WARPS = 8
"""Warps of the backward kernel. With 4, as in the forward kernel, the compiler for sm_90 runs out of registers."""


@torch.library.custom_op("tttkit::ttt_linear_scan", mutates_args=())
def ttt_linear_scan(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    learning_rates: Tensor,
    factors: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight: Tensor,
    pending: Tensor | None,
    eps: float,
    closes: bool,
    bf16: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs (N, M, C, d), the final weights (M, d + 1, d), and the weights at each start (N, M, d + 1, d).

    If the pieces do not close their mini-batch, the second result is the pending sum in place of the weights. `keep`
    asks for the weights at each start, which the backward pass needs; without it they are empty. `bf16` rounds the
    operands of products; without it they are float32, or tf32 if `torch.set_float32_matmul_precision` allows it.
    """
    num_chunks, num_programs, size, head_dim = queries.shape
    output, after = torch.empty_like(queries), torch.empty_like(weight)
    starts = weight.new_empty(num_chunks if keep else 0, *weight.shape)
    # Triton launches on the current device
    with torch.cuda.device_of(queries):  # type: ignore[no-untyped-call]
        forward_kernel[(num_programs,)](
            queries, keys, values, learning_rates, factors, scale, shift, weight,
            weight if pending is None else pending, output, after, starts, eps, num_chunks, num_programs,
            C=size, D=head_dim, **tiles(size, head_dim),
            HAS_PENDING=pending is not None, CLOSES=closes, KEEP=keep, PRODUCTS=_products(bf16), **OPTIONS,
        )  # fmt: skip
    return output, after, starts


@torch.library.custom_op("tttkit::ttt_linear_scan_backward", mutates_args=())
def ttt_linear_scan_backward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    learning_rates: Tensor,
    factors: Tensor,
    scale: Tensor,
    shift: Tensor,
    starts: Tensor,
    pending: Tensor | None,
    grad_output: Tensor,
    grad_after: Tensor | None,
    eps: float,
    closes: bool,
    bf16: bool,
) -> list[Tensor]:
    """Return the gradients of queries, keys, values, learning rates, factors (M, C), scale, shift, weight and pending.

    The gradient of `pending` is empty if nothing was pending.
    """
    num_chunks, num_programs, size, head_dim = queries.shape
    grads = _new_gradients(queries, learning_rates, scale, starts, pending)
    forward_inputs = (queries, keys, values, learning_rates, factors, scale, shift, starts)
    with torch.cuda.device_of(queries):  # type: ignore[no-untyped-call]
        backward_kernel[(num_programs,)](
            *forward_inputs, starts if pending is None else pending,
            grad_output, starts if grad_after is None else grad_after, *grads, eps, num_chunks, num_programs,
            C=size, D=head_dim, **tiles(size, head_dim),
            HAS_PENDING=pending is not None, CLOSES=closes, HAS_GRAD_AFTER=grad_after is not None,
            PRODUCTS=_products(bf16), num_warps=BACKWARD_WARPS, **OPTIONS,
        )  # fmt: skip
    return grads


@ttt_linear_scan.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    queries, *_, weight, _pending, _eps, _closes, _bf16, keep = inputs
    num_chunks = queries.shape[0] if keep else 0
    return torch.empty_like(queries), torch.empty_like(weight), weight.new_empty(num_chunks, *weight.shape)


@ttt_linear_scan_backward.register_fake
def _(*inputs: Any) -> list[Tensor]:
    queries, _keys, _values, learning_rates, _factors, scale, _shift, starts, pending, *_ = inputs
    return _new_gradients(queries, learning_rates, scale, starts, pending)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, _weight, pending, ctx.eps, ctx.closes, ctx.bf16, _keep = inputs
    ctx.save_for_backward(*tensors, output[2], pending)
    # the state after the last window usually has no gradient
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_output: Tensor | None, grad_after: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    *tensors, starts, pending = ctx.saved_tensors
    grad_output = torch.zeros_like(tensors[0]) if grad_output is None else grad_output.contiguous()
    grad_after = None if grad_after is None else grad_after.contiguous()
    *grads, grad_pending = ttt_linear_scan_backward(
        *tensors, starts, pending, grad_output, grad_after, ctx.eps, ctx.closes, ctx.bf16
    )
    # all programs share the factors
    grads[4] = grads[4].sum(0)
    return *grads, None if pending is None else grad_pending, None, None, None, None


ttt_linear_scan.register_autograd(_backward, setup_context=_setup_context)


def scan_linear_fused(chunks: Chunks, weights: Matrices, pending: Matrices | None) -> ScanResult:
    """Compute `ttt_inner.scan_linear` in one kernel; keep what the backward pass needs if torch records gradients."""
    (weight,) = weights
    inputs = (
        chunks.queries, chunks.keys, chunks.values, chunks.learning_rates, chunks.factors, chunks.scale, chunks.shift
    )  # fmt: skip
    output, after, _ = ttt_linear_scan(
        *(tensor.contiguous() for tensor in inputs),
        weight.contiguous(),
        None if pending is None else pending[0].contiguous(),
        chunks.eps,
        chunks.closes,
        chunks.bf16,
        torch.is_grad_enabled(),
    )
    return (output, (after,), None) if chunks.closes else (output, (weight,), (after,))


def _products(bf16: bool) -> str:
    if bf16:
        return "bf16"
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def tiles(size: int, head_dim: int) -> dict[str, int]:
    """Return the tile sizes of the kernels: powers of two that hold C tokens and d columns."""
    tokens, columns = (max(_MIN_TILE, triton.next_power_of_2(extent)) for extent in (size, head_dim))
    return {"BC": tokens, "BD": columns}


def _new_gradients(
    queries: Tensor, learning_rates: Tensor, scale: Tensor, starts: Tensor, pending: Tensor | None
) -> list[Tensor]:
    """Allocate the results of the backward kernel, in its order."""
    _, num_programs, size, _ = queries.shape
    return [
        *(torch.empty_like(queries) for _ in range(3)),
        torch.empty_like(learning_rates),
        queries.new_empty(num_programs, size),
        *(torch.empty_like(scale) for _ in range(2)),
        starts.new_empty(starts.shape[1:]),
        starts.new_empty(0) if pending is None else torch.empty_like(pending),
    ]
