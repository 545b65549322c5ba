"""Operations of the kernels of `ttt_triton.py` on single tiles: load, store, multiply, normalise.

Names as there: a tile has BC >= C tokens and BD >= d columns, and its padding is zero.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dot(a, b, PRODUCTS: tl.constexpr):
    """Return the float32 matrix product of operands rounded as PRODUCTS says."""
    if PRODUCTS == "bf16":
        product = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    else:
        product = tl.dot(a, b, input_precision=PRODUCTS)
    return product


@triton.jit
def lower(x):
    """Return the lower triangle of a square tile."""
    row, col = tl.arange(0, x.shape[0])[:, None], tl.arange(0, x.shape[1])[None, :]
    return tl.where(row >= col, x, 0.0)


@triton.jit
def mean(x, D: tl.constexpr):
    """Return the mean over the d columns of a tile whose padding is zero, (BC, 1)."""
    return tl.sum(x, axis=1, keep_dims=True) / D


@triton.jit
def clip(x, D: tl.constexpr):
    """Return the tile with zeros after its first d columns."""
    return tl.where(tl.arange(0, x.shape[1])[None, :] < D, x, 0.0)


@triton.jit
def normalise(z, eps, D: tl.constexpr):
    """Return the rows of z with mean 0 and variance 1, and the factor that scaled them, (BC, 1)."""
    centred = clip(z - mean(z, D), D)
    inverse = tl.rsqrt(mean(centred * centred, D) + eps)
    return centred * inverse, inverse


@triton.jit
def project(x, normed, D: tl.constexpr):
    """Apply P: remove from the rows of x their mean and their part along the normalised rows."""
    return clip(x - mean(x, D) - normed * mean(x * normed, D), D)


@triton.jit
def load_row(base, index, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Load row `index` of a (…, SIZE) array, (1, BLOCK)."""
    at = tl.arange(0, BLOCK)[None, :]
    return tl.load(base + index * SIZE + at, mask=at < SIZE, other=0.0)


@triton.jit
def store_row(base, index, x, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Invert `load_row`."""
    at = tl.arange(0, BLOCK)[None, :]
    tl.store(base + index * SIZE + at, x, mask=at < SIZE)


@triton.jit
def load_tile(base, index, C: tl.constexpr, D: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr):
    """Load piece `index` of a (…, C, d) array, (BC, BD)."""
    row, col = tl.arange(0, BC)[:, None], tl.arange(0, BD)[None, :]
    return tl.load(base + index * C * D + row * D + col, mask=(row < C) & (col < D), other=0.0)


@triton.jit
def store_tile(base, index, x, C: tl.constexpr, D: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr):
    """Invert `load_tile`."""
    row, col = tl.arange(0, BC)[:, None], tl.arange(0, BD)[None, :]
    tl.store(base + index * C * D + row * D + col, x, mask=(row < C) & (col < D))


@triton.jit
def load_matrix(base, index, D: tl.constexpr, BD: tl.constexpr):
    """Load fast weights `index` of a (…, d + 1, d) array: the matrix (BD, BD), and its last row, the bias (1, BD)."""
    start = base + index * (D + 1) * D
    return load_tile(start, 0, D, D, BD, BD), load_row(start, D, D, BD)


@triton.jit
def store_matrix(base, index, w, b, D: tl.constexpr, BD: tl.constexpr):
    """Invert `load_matrix`."""
    start = base + index * (D + 1) * D
    store_tile(start, 0, w, D, D, BD, BD)
    store_row(start, D, b, D, BD)
