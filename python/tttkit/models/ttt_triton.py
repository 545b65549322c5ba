"""The Triton kernels of TTT-Linear for a GPU: one program per row and head scans its mini-batches in sequence.

They compute the function of `ttt_inner.scan_linear` with its names and shapes: M = batch x heads programs, N
mini-batches, C tokens in each, d head width. Weights, norms, gradients and sums stay in float32; only the operands of
products are rounded, as PRODUCTS says: "bf16", "tf32", or "ieee" for float32. A tile has BC >= C tokens and BD >= d
columns; its padding is zero and stays zero, because the learning rates, keys and scales there are zero.

The forward kernel saves only the weights at the start of each mini-batch, N x M x (d + 1) x d numbers; the backward
kernel goes through the mini-batches in reverse and recomputes everything else. Neither kernel uses atomics, so
results are the same in every run. `ttt_linear_op.py` makes them a torch operator.
"""

from __future__ import annotations

import triton
import triton.language as tl

from tttkit.models.ttt_triton_tiles import (
    dot,
    load_matrix,
    load_row,
    load_tile,
    lower,
    mean,
    normalise,
    project,
    store_matrix,
    store_row,
    store_tile,
)


@triton.jit
def forward_kernel(
    queries, keys, values, learning_rates, factors, scale, shift, weight, pending, output, after, starts,
    eps, num_chunks, num_programs, C: tl.constexpr, D: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr,
    HAS_PENDING: tl.constexpr, CLOSES: tl.constexpr, KEEP: tl.constexpr, PRODUCTS: tl.constexpr,
):  # fmt: skip
    """Write outputs (N, M, C, d) and `after` (M, d + 1, d): the new weights if the pieces close, else the pending sum.

    With KEEP, also write the weights at the start of each mini-batch to `starts`, (N, M, d + 1, d). A piece that does
    not close its mini-batch comes alone, N = 1, and so does a piece that continues a mini-batch.
    """
    program = tl.program_id(0).to(tl.int64)
    w, b = load_matrix(weight, program, D, BD)
    g, c = load_row(scale, program, D, BD), load_row(shift, program, D, BD)
    t = load_row(factors, 0, C, BC)
    last = tl.load(factors + C - 1)
    sum_w, sum_b = tl.zeros((BD, BD), tl.float32), tl.zeros((1, BD), tl.float32)
    if HAS_PENDING:
        sum_w, sum_b = load_matrix(pending, program, D, BD)
    for n in range(num_chunks):
        piece = n * num_programs + program
        if KEEP:
            store_matrix(starts, piece, w, b, D, BD)
        q = load_tile(queries, piece, C, D, BC, BD)
        k = load_tile(keys, piece, C, D, BC, BD)
        v = load_tile(values, piece, C, D, BC, BD)
        lr = load_row(learning_rates, piece, C, BC)
        gradient, _, _, _, _ = inner_gradient(k, v, w, b, g, c, eps, D, PRODUCTS)
        _, mixing = mix(q, k, t, lr, PRODUCTS)
        z = dot(q, w, PRODUCTS) + b - dot(mixing, gradient, PRODUCTS)
        if HAS_PENDING:
            z -= tl.trans(t) * (dot(q, sum_w, PRODUCTS) + sum_b)
        normed, _ = normalise(z, eps, D)
        store_tile(output, piece, q + g * normed + c, C, D, BC, BD)
        step_w = sum_w + dot(tl.trans(k * tl.trans(lr)), gradient, PRODUCTS)
        step_b = sum_b + tl.sum(gradient * tl.trans(lr), axis=0, keep_dims=True)
        if CLOSES:
            w, b = w - last * step_w, b - last * step_b
        else:
            w, b = step_w, step_b
    store_matrix(after, program, w, b, D, BD)


@triton.jit
def backward_kernel(
    queries, keys, values, learning_rates, factors, scale, shift, starts, pending, grad_output, grad_after,
    grad_queries, grad_keys, grad_values, grad_learning_rates, grad_factors, grad_scale, grad_shift, grad_weight,
    grad_pending,
    eps, num_chunks, num_programs, C: tl.constexpr, D: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr,
    HAS_PENDING: tl.constexpr, CLOSES: tl.constexpr, HAS_GRAD_AFTER: tl.constexpr, PRODUCTS: tl.constexpr,
):  # fmt: skip
    """Write the gradients of `forward_kernel`: one per input, of its shape; factors, scale and shift per program.

    `dw`, `db` are the gradient of the weights after the current mini-batch, then of the weights before it.
    """
    program = tl.program_id(0).to(tl.int64)
    g, c = load_row(scale, program, D, BD), load_row(shift, program, D, BD)
    t = load_row(factors, 0, C, BC)
    last = tl.load(factors + C - 1)
    dw, db = tl.zeros((BD, BD), tl.float32), tl.zeros((1, BD), tl.float32)
    dg, dc, dt = tl.zeros((1, BD), tl.float32), tl.zeros((1, BD), tl.float32), tl.zeros((1, BC), tl.float32)
    if HAS_GRAD_AFTER:
        dw, db = load_matrix(grad_after, program, D, BD)
    for back in range(num_chunks):
        piece = (num_chunks - 1 - back) * num_programs + program
        w, b = load_matrix(starts, piece, D, BD)
        q = load_tile(queries, piece, C, D, BC, BD)
        k = load_tile(keys, piece, C, D, BC, BD)
        v = load_tile(values, piece, C, D, BC, BD)
        lr = load_row(learning_rates, piece, C, BC)
        gradient, normed, inverse, u, projected = inner_gradient(k, v, w, b, g, c, eps, D, PRODUCTS)
        reached, mixing = mix(q, k, t, lr, PRODUCTS)
        z = dot(q, w, PRODUCTS) + b - dot(mixing, gradient, PRODUCTS)
        # gradient of the step: pushed = [k, 1] dW per token, applied with -t_C if the mini-batch closes
        pushed, along_step = dot(k, dw, PRODUCTS) + db, dot(gradient, tl.trans(dw), PRODUCTS)
        dlr = tl.trans(tl.sum(gradient * pushed, axis=1, keep_dims=True))
        applied = -last if CLOSES else 1.0
        if HAS_PENDING:
            sum_w, sum_b = load_matrix(pending, program, D, BD)
            waiting = dot(q, sum_w, PRODUCTS) + sum_b
            z -= tl.trans(t) * waiting
            dsum_w, dsum_b = applied * dw, applied * db
        if CLOSES:
            dlast = -tl.sum(lr * dlr)
            if HAS_PENDING:
                dlast -= tl.sum(dw * sum_w) + tl.sum(db * sum_b)
            dt += tl.where(tl.arange(0, BC)[None, :] == C - 1, dlast, 0.0)
        else:
            dw, db = tl.zeros((BD, BD), tl.float32), tl.zeros((1, BD), tl.float32)

        do = load_tile(grad_output, piece, C, D, BC, BD)
        normed_z, inverse_z = normalise(z, eps, D)
        dz = project(do * g, normed_z, D) * inverse_z
        dq = do + dot(dz, tl.trans(w), PRODUCTS)
        dg += tl.sum(do * normed_z, axis=0, keep_dims=True)
        dc += tl.sum(do, axis=0, keep_dims=True)
        if HAS_PENDING:
            dwaiting = -tl.trans(t) * dz
            dt -= tl.trans(tl.sum(dz * waiting, axis=1, keep_dims=True))
            dq += dot(dwaiting, tl.trans(sum_w), PRODUCTS)
            dsum_w += dot(tl.trans(q), dwaiting, PRODUCTS)
            dsum_b += tl.sum(dwaiting, axis=0, keep_dims=True)
            store_matrix(grad_pending, program, dsum_w, dsum_b, D, BD)

        dq_mix, dk, dlr_mix, dt_mix = mix_backward(q, k, t, lr, reached, gradient, dz, PRODUCTS)
        dgradient = applied * tl.trans(lr) * pushed - dot(tl.trans(mixing), dz, PRODUCTS)
        du, dinner = inner_gradient_backward(dgradient, normed, inverse, u, projected, g, D)
        dk += applied * tl.trans(lr) * along_step + g * du + dot(dinner, tl.trans(w), PRODUCTS)
        store_tile(grad_queries, piece, dq + dq_mix, C, D, BC, BD)
        store_tile(grad_keys, piece, dk, C, D, BC, BD)
        store_tile(grad_values, piece, -g * du, C, D, BC, BD)
        store_row(grad_learning_rates, piece, applied * dlr + dlr_mix, C, BC)
        dt += dt_mix
        dg += tl.sum(du * (2.0 * g * normed + c - v + k), axis=0, keep_dims=True)
        dc += tl.sum(du * g, axis=0, keep_dims=True)
        dw += dot(tl.trans(q), dz, PRODUCTS) + dot(tl.trans(k), dinner, PRODUCTS)
        db += tl.sum(dz + dinner, axis=0, keep_dims=True)
    store_matrix(grad_weight, program, dw, db, D, BD)
    store_row(grad_scale, program, dg, D, BD)
    store_row(grad_shift, program, dc, D, BD)
    store_row(grad_factors, program, dt, C, BC)


@triton.jit
def inner_gradient(k, v, w, b, g, c, eps, D: tl.constexpr, PRODUCTS: tl.constexpr):
    """Return G = r P(u) and its parts: n the normalised k W + b, r its inverse deviation, u = g (g n + c - v + k)."""
    normed, inverse = normalise(dot(k, w, PRODUCTS) + b, eps, D)
    u = g * (g * normed + c - v + k)
    projected = project(u, normed, D)
    return projected * inverse, normed, inverse, u, projected


@triton.jit
def inner_gradient_backward(dgradient, normed, inverse, u, projected, g, D: tl.constexpr):
    """Return the gradients of u and of k W + b: n enters through u and as a factor in P, r through k W + b alone."""
    du = project(dgradient, normed, D) * inverse
    along_u, along_d = mean(u * normed, D), mean(dgradient * normed, D)
    dnormed = g * g * du - (dgradient * along_u + u * along_d) * inverse
    along_r = mean(dgradient * projected, D) * inverse
    return du, (project(dnormed, normed, D) - normed * along_r) * inverse


@triton.jit
def mix(q, k, t, lr, PRODUCTS: tl.constexpr):
    """Return q_i k_j + 1 and A = tril(t_i l_j (q_i k_j + 1)): how much the gradient of token j changes what i reads."""
    reached = dot(q, tl.trans(k), PRODUCTS) + 1.0
    return reached, lower(reached * tl.trans(t) * lr)


@triton.jit
def mix_backward(q, k, t, lr, reached, gradient, dz, PRODUCTS: tl.constexpr):
    """Return the gradients of q, k, learning rates and factors through z = … - A G."""
    dmixing = lower(-dot(dz, tl.trans(gradient), PRODUCTS))
    dreached = dmixing * tl.trans(t) * lr
    share = dmixing * reached
    dlr = tl.sum(share * tl.trans(t), axis=0, keep_dims=True)
    dt = tl.trans(tl.sum(share * lr, axis=1, keep_dims=True))
    return dot(dreached, k, PRODUCTS), dot(tl.trans(dreached), q, PRODUCTS), dlr, dt
