"""What the chunked operators share: precision, cutting into chunks, decays between the tokens of a chunk.

Shapes: B batch, T tokens, H heads, N chunks, C tokens of a chunk, d width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")
SEGMENT = 2048
"""Tokens whose chunks are prepared at once: it bounds the temporary memory for a text of any length."""


def in_full_precision(operator: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Make an operator compute in float32, or in float64 if an input is float64, regardless of autocast.

    Arguments that are tensors or plain tuples of tensors are converted.
    """

    @functools.wraps(operator)
    def wrapped(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        tensors = [
            x for group in args for x in (group if isinstance(group, tuple) else (group,)) if isinstance(x, Tensor)
        ]
        dtype = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
        with torch.autocast(tensors[0].device.type, enabled=False):
            return operator(*(_convert(x, dtype) for x in args), **kwargs)

    return wrapped


def _convert(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype)
    if type(value) is tuple:
        return tuple(_convert(x, dtype) for x in value)
    return value


def segments(length: int) -> Iterator[slice]:
    """Yield the segments of `length` tokens that are processed one after the other."""
    for start in range(0, length, SEGMENT):
        yield slice(start, min(start + SEGMENT, length))


def chunk_sizes(length: int, largest: int) -> tuple[int, int]:
    """Return the number of chunks and their size, of at most `largest` tokens, so that little padding is needed."""
    num = -(-length // largest)
    return num, -(-length // num)


def cut(x: Tensor, num: int, size: int) -> Tensor:
    """Cut (B, T, H, …) into chunks (B, H, N, C, …); zeros fill the last chunk."""
    missing = num * size - x.shape[1]
    if missing:
        x = F.pad(x, (*[0, 0] * (x.ndim - 2), 0, missing))
    return torch.unflatten(x, 1, (num, size)).movedim(3, 1)


def join(x: Tensor, length: int) -> Tensor:
    """Invert `cut`: (B, H, N, C, d) to (B, T, H, d)."""
    return x.movedim(1, 3).flatten(1, 2)[:, :length]


def decay_between(log_decay: Tensor) -> Tensor:
    """Return by how much the state after token j has decayed after token i: (…, C) to (…, i, j), zero for j > i.

    The entry is `exp` of the log decays summed over the tokens j + 1 … i. Each sum is computed on its own: a difference
    of cumulative sums would lose the digits of a weak decay that follows a strong one, and a quotient of exponentials
    would overflow.
    """
    size = log_decay.shape[-1]
    future = later(size, log_decay.device)
    unused = future | torch.eye(size, dtype=torch.bool, device=log_decay.device)
    sums = log_decay[..., :, None].masked_fill(unused, 0.0).cumsum(-2)
    return sums.masked_fill(future, -torch.inf).exp()


def later(size: int, device: torch.device) -> Tensor:
    """Return which tokens j come after token i, (i, j) bool."""
    return torch.ones(size, size, dtype=torch.bool, device=device).triu(1)


def solve_unit_lower(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve (I + L) X = R for (…, C, C) and (…, C, d), where L is the part of `matrix` below the diagonal."""
    solution: Tensor = torch.linalg.solve_triangular(matrix, right, upper=False, unitriangular=True)
    return solution
