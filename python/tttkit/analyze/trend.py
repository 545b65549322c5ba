"""Straight lines through noisy curves, with intervals that hold when neighbouring points depend on each other."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % points of Student's t with 1 … 10 degrees of freedom."""
_MOST_CORRELATION = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slope:
    """Change of y for a unit of x, with its 95 % interval; NaN where fewer than three points are known."""

    value: float
    low: float
    high: float
    num_points: int


def fit_slope(x: Floats, y: Floats) -> Slope:
    """Least squares; the interval is widened by the correlation between neighbouring residuals."""
    count = x.size
    if count < 3 or np.ptp(x) == 0:
        return Slope(value=np.nan, low=np.nan, high=np.nan, num_points=count)
    centred = x - x.mean()
    spread = float(centred @ centred)
    value = float(centred @ y) / spread
    residuals = y - y.mean() - value * centred
    error = np.sqrt(float(residuals @ residuals) / (count - 2) / spread) * np.sqrt(_inflation(residuals))
    reach = t_quantile(count - 2) * error
    return Slope(value=value, low=value - reach, high=value + reach, num_points=count)


def t_quantile(degrees: int) -> float:
    """97.5 % point of Student's t."""
    if degrees <= len(_T_QUANTILES):
        return _T_QUANTILES[max(degrees, 1) - 1]
    z = 1.959964  # Cornish-Fisher: exact to 0.1 % from 10 degrees on
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def autocorrelation(residuals: Floats) -> float:
    """Correlation of neighbours, corrected for the bias that a fitted line brings, within 0 … 0.9."""
    total = float(residuals @ residuals)
    if residuals.size < 8 or total == 0:
        return 0.0
    raw = float(residuals[1:] @ residuals[:-1]) / total
    return float(np.clip(raw + 2.0 / residuals.size, 0.0, _MOST_CORRELATION))


def _inflation(residuals: Floats) -> float:
    """By how much the variance of a mean exceeds that of independent points."""
    correlation = autocorrelation(residuals)
    return (1 + correlation) / (1 - correlation)
