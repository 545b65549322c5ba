"""Paired bootstrap over sequences: the uncertainty of a difference between two contexts (docs/protocol.md)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tttkit import _rust
from tttkit.evaluate.arrays import check_nll, check_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedBootstrap:
    """Per chunk, shape (C,): difference in nats and ratio of perplexities; 95 % intervals, NaN for one sequence."""

    difference: NDArray[np.float64]
    """mean(nll_sw) - mean(nll_full): above 0 if `full` is better."""
    difference_low: NDArray[np.float64]
    difference_high: NDArray[np.float64]
    band_low: NDArray[np.float64]
    """Simultaneous (max-t) 95 % band over all chunks, for statements about where the sign changes."""
    band_high: NDArray[np.float64]

    @property
    def ratio(self) -> NDArray[np.float64]:
        """SW/TTT: exp(difference)."""
        return _exp(self.difference)

    @property
    def ratio_low(self) -> NDArray[np.float64]:
        """Lower end of the ratio's interval."""
        return _exp(self.difference_low)

    @property
    def ratio_high(self) -> NDArray[np.float64]:
        """Upper end of the ratio's interval."""
        return _exp(self.difference_high)

    @property
    def ratio_band(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper end of the ratio's simultaneous band."""
        return _exp(self.band_low), _exp(self.band_high)


def paired_bootstrap(
    nll_full: NDArray[np.float32],
    nll_sw: NDArray[np.float32],
    chunk_size: int = 16,
    chunk_stride: int = 16,
    num_resamples: int = 10_000,
    seed: int = 0,
    statistic: Literal["mean", "median"] = "mean",
    groups: NDArray[np.uint32] | None = None,
) -> PairedBootstrap:
    """Resample sequences with replacement, the same for both, and compute mean(nll_sw) - mean(nll_full) per chunk.

    Both arguments are float32 NLL in nats, (sequences, positions); a chunk with NaN gives NaN. Intervals are
    percentiles of the resamples; fewer than 16 sequences or groups get wider ones of Student's t, one gets NaN. With
    `statistic="median"` the lower median over sequences replaces the mean, as in the earlier system. With `groups`,
    uint32 (sequences,) counted from 0 without gaps, whole groups (documents) are drawn, for means only. The result
    depends on the seed, but not on the number of threads. Raises TypeError, ValueError naming the argument.
    """
    nll_full, nll_sw = check_nll("nll_full", nll_full), check_nll("nll_sw", nll_sw)
    if nll_full.shape != nll_sw.shape:
        raise ValueError(f"nll_full and nll_sw must have the same shape, got {nll_full.shape} and {nll_sw.shape}")
    for name, value in (("chunk_size", chunk_size), ("chunk_stride", chunk_stride), ("num_resamples", num_resamples)):
        check_size(name, value)
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be in 0 … 2**64 - 1, got {seed}")
    if statistic not in ("mean", "median"):
        raise ValueError(f"statistic must be mean or median, got {statistic!r}")
    if groups is not None:
        _check_groups(groups, len(nll_full), statistic)
    figures = _rust.paired_bootstrap(
        nll_full, nll_sw, groups, chunk_size=chunk_size, chunk_stride=chunk_stride, median=statistic == "median",
        num_resamples=num_resamples, seed=seed,
    )  # fmt: skip
    names = ("difference", "difference_low", "difference_high", "band_low", "band_high")
    return PairedBootstrap(**dict(zip(names, figures, strict=True)))


def _check_groups(groups: NDArray[np.uint32], num_sequences: int, statistic: str) -> None:
    """Refuse groups that do not give every sequence one of the numbers from 0 without gaps."""
    if statistic != "mean":
        raise ValueError(f"groups can be resampled for the mean only, got statistic {statistic!r}")
    if not isinstance(groups, np.ndarray) or groups.dtype != np.uint32:
        raise TypeError(f"groups must be a uint32 array, got {getattr(groups, 'dtype', type(groups).__name__)}")
    if groups.shape != (num_sequences,):
        raise ValueError(f"groups must have shape ({num_sequences},), got {groups.shape}")
    if np.unique(groups).size != int(groups.max()) + 1:
        raise ValueError(
            f"groups must be counted from 0 without gaps, got {np.unique(groups).size} numbers up to {groups.max()}"
        )


def _exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.exp(values)
