"""Convert per-token NLL to perplexity per chunk, and find the chunk that stands for m x W (docs/protocol.md)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tttkit._rust import chunk_statistics
from tttkit.evaluate.arrays import check_nll, check_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkPerplexity:
    """Figures per chunk, all of shape (C,)."""

    centers: NDArray[np.int64]
    """start + K // 2."""
    ends: NDArray[np.int64]
    """Position after the last position of the chunk."""
    mean_nll: NDArray[np.float64]
    """Nats per token; with `median` the lower median over sequences of their means."""
    num_tokens: NDArray[np.int64]
    """Number of tokens in each figure."""
    window: int
    legacy: bool

    @property
    def perplexity(self) -> NDArray[np.float64]:
        """exp of the mean NLL; infinite if the result overflows float64."""
        with np.errstate(over="ignore"):
            return np.exp(self.mean_nll)

    def index_at_multiple(self, multiple: int) -> int:
        """Return the index of the chunk that stands for `multiple` x W: the last one with end <= m W.

        With `legacy` it is the chunk with the nearest center, the first one on ties. Raises ValueError when no chunk
        ends by then or, without `legacy`, when the positions do not reach that far.
        """
        target = check_size("multiple", multiple) * self.window
        if self.legacy:
            return int(np.argmin(np.abs(self.centers - target)))
        inside = np.flatnonzero(self.ends <= target)
        if inside.size == 0 or self.ends[-1] + self._stride <= target:
            raise ValueError(f"{multiple} x W = {target} is outside the chunks, which end at {self.ends[-1]}")
        return int(inside[-1])

    def at_multiple(self, multiple: int) -> tuple[float, int]:
        """Return (perplexity, center) of the chunk that stands for `multiple` x W."""
        index = self.index_at_multiple(multiple)
        return float(self.perplexity[index]), int(self.centers[index])

    @property
    def _stride(self) -> int:
        return int(self.centers[1] - self.centers[0]) if self.centers.size > 1 else int(self.ends[0])


def chunk_perplexity(
    nll: NDArray[np.float32],
    window: int = 64,
    chunk_size: int = 16,
    chunk_stride: int = 16,
    aggregate: Literal["mean", "median"] = "mean",
    legacy: bool = False,
    x_axis: Literal["center", "end"] = "center",
) -> ChunkPerplexity:
    """Return the perplexity of every chunk `nll[:, c*S : c*S + K]` of float32 NLL in nats, (sequences, positions).

    `mean`: exp(sum / number of tokens), in float64. `median`: exp of the lower median over sequences of their means.
    `legacy` labels chunks by the nearest center and, with `x_axis="center"`, cuts a chunk across W at W, as the earlier
    system did. Raises TypeError, ValueError naming the argument.
    """
    nll = check_nll("nll", nll)
    for name, value in (("window", window), ("chunk_size", chunk_size), ("chunk_stride", chunk_stride)):
        check_size(name, value)
    if aggregate not in ("mean", "median"):
        raise ValueError(f"aggregate must be mean or median, got {aggregate!r}")
    if x_axis not in ("center", "end"):
        raise ValueError(f"x_axis must be center or end, got {x_axis!r}")
    centers, ends, mean_nll, num_tokens = chunk_statistics(
        nll,
        window=window,
        chunk_size=chunk_size,
        chunk_stride=chunk_stride,
        median=aggregate == "median",
        cut_at_window=legacy and x_axis == "center",
    )
    return ChunkPerplexity(
        centers=centers, ends=ends, mean_nll=mean_nll, num_tokens=num_tokens, window=window, legacy=legacy
    )
