"""Batches of shuffled windows: a batch is a pure function of the step, so a run resumes from one integer.

The windows of an epoch come in the order of a keyed permutation. It is computed, not stored: any step takes constant
time on a corpus of any size, without worker processes and without memory of earlier steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from tttkit._rust import Sampler
from tttkit.data.split import Split
from tttkit.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def check_sampling(split: Split, window: int, batch_size: int, seed: int, rank: int, world_size: int) -> int:
    """Return the number of full windows. Raises ValueError for a wrong argument, DataError if there is no window."""
    for name, value in (("window", window), ("batch_size", batch_size), ("world_size", world_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0 … {world_size - 1}, got {rank}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be in 0 … 2**64 - 1, got {seed}")
    num_windows = max(0, split.num_tokens - 1) // window
    if num_windows == 0:
        raise DataError(f"the split has {split.num_tokens} tokens, but one window of W={window} needs {window + 1}")
    return num_windows


def batch_maker(batch_size: int, window: int) -> Callable[[], Tensor]:
    """Return a function that makes empty int64 tensors `(batch_size, window + 1)`, pinned if there is a GPU."""
    import torch

    return functools.partial(
        torch.empty, (batch_size, window + 1), dtype=torch.int64, pin_memory=torch.cuda.is_available()
    )


class WindowSampler:
    """Batches of `batch_size` windows of W+1 tokens for one rank among `world_size`.

    Window k has the tokens k W … k W + W, both included, across documents and shards. The ranks together read every
    window of an epoch exactly once. Then the next epoch begins in a different order, in the middle of a batch if
    necessary.
    """

    def __init__(
        self, split: Split, *, window: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Raise ValueError for a size below 1 or a rank outside the world, DataError for a split without a window."""
        self.num_windows = check_sampling(split, window, batch_size, seed, rank, world_size)
        """Full windows in the split."""
        self._sampler = Sampler(
            split.rust, window=window, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self._pinned = _pinned_batch(self._sampler, batch_size, window)
        self._batch = self._sampler.batch
        self._from_numpy = _from_numpy()

    @property
    def windows_per_epoch(self) -> int:
        """Windows that all ranks together read in one epoch: all windows of the split."""
        return self.num_windows

    def batch(self, step: int) -> Tensor:
        """Return this rank's windows at `step` (from 0), int64 `(batch_size, W + 1)`. Raises ValueError below 0."""
        if self._pinned is not None:
            return self._pinned(step)
        return self._from_numpy(self._batch(step))


def _from_numpy() -> Callable[[NDArray[np.int64]], Tensor]:
    """Return `torch.from_numpy`: wrapping an array that Rust makes is cheaper than filling an empty tensor."""
    from torch import from_numpy

    return from_numpy


def _pinned_batch(sampler: Sampler, batch_size: int, window: int) -> Callable[[int], Tensor] | None:
    """Return a function that reads the windows of a step into pinned memory; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    new_batch = batch_maker(batch_size, window)

    def batch(step: int) -> Tensor:
        tokens = new_batch()
        sampler.fill(tokens.numpy(), step)
        return tokens

    return batch
