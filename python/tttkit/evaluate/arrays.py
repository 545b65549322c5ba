"""Checks of the arrays that users pass in; errors name the expected and the actual value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = (1 << 31) - 1
_WHOLE = (int, np.integer)


def check_nll(name: str, value: Any) -> NDArray[np.float32]:
    """Return `value` as a C-contiguous float32 `(B, T)` array. Raises TypeError, ValueError naming the argument."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(value).__name__}")
    if value.dtype != np.float32:
        raise TypeError(f"{name} must be float32, got {value.dtype}")
    if value.ndim != 2 or 0 in value.shape:
        raise ValueError(f"{name} must have shape (sequences, positions), both at least 1, got {value.shape}")
    return np.ascontiguousarray(value)


def check_size(name: str, value: int) -> int:
    """Return `value` if it is a whole number of at least 1. Raises TypeError, ValueError naming the argument."""
    if isinstance(value, bool) or not isinstance(value, _WHOLE):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not 1 <= value <= _MOST:
        raise ValueError(f"{name} must be in 1 … {_MOST}, got {value}")
    return int(value)
