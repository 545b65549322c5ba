"""Bootstrap of means over sequences or over documents, with simultaneous bands: 10,000 resamples, seed 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tttkit import _rust
from tttkit.analyze.trend import Floats

NUM_RESAMPLES = 10_000
SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """Per column: observed mean, percentile 95 % interval, simultaneous (max-t) 95 % band over all columns."""

    observed: Floats
    low: Floats
    high: Floats
    band_low: Floats
    band_high: Floats

    def sign(self, *, simultaneous: bool) -> NDArray[np.int64]:
        """Return +1 where a mean is significantly above 0, -1 where it is significantly below, else 0."""
        low, high = (self.band_low, self.band_high) if simultaneous else (self.low, self.high)
        return np.where(low > 0, 1, np.where(high < 0, -1, 0))


def bootstrap(values: Floats, groups: NDArray[np.uint32] | None = None) -> Intervals:
    """Bootstrap the means of (rows, columns) by rows, or by whole groups of rows; NaN columns stay NaN.

    A single row or group has no spread, so its intervals are NaN; fewer than 16 get those of Student's t.
    """
    rows = np.ascontiguousarray(values, dtype=np.float64)
    columns = _rust.bootstrap_means(rows, groups, num_resamples=NUM_RESAMPLES, seed=SEED)
    names = ("observed", "low", "high", "band_low", "band_high")
    return Intervals(**dict(zip(names, columns, strict=True)))


def bootstrap_shares(values: Floats) -> Intervals:
    """Bootstrap the means of shares by rows; intervals end at 0 and 1, which Student's t does not know."""
    result = bootstrap(values)
    return dataclasses.replace(result, low=np.clip(result.low, 0.0, 1.0), high=np.clip(result.high, 0.0, 1.0))


def over_groups(values: Floats, names: Sequence[int]) -> Intervals | None:
    """Bootstrap the means of (rows, columns) by groups of rows of equal name; None if there is a single group."""
    known, groups = np.unique(names, return_inverse=True)
    return None if known.size < 2 else bootstrap(values, groups.astype(np.uint32))
