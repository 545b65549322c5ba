"""Step to batch of windows: a pure function, so that a run resumes with one integer.

The windows of an epoch come in the order of a keyed permutation that is computed, not stored: any step is found in
constant time, on a corpus of any size, without state, worker processes or history.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from tttkit._rust import Sampler
from tttkit.data.split import Split
from tttkit.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def check_sampling(split: Split, window: int, batch_size: int, seed: int, rank: int, world_size: int) -> int:
    """Number of full windows in the split. Raises ValueError for a wrong argument, DataError when there are none."""
    for name, value in (("window", window), ("batch_size", batch_size), ("world_size", world_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0 … {world_size - 1}, got {rank}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be in 0 … 2**64 - 1, got {seed}")
    num_windows = max(0, split.num_tokens - 1) // window
    if num_windows == 0:
        raise DataError(f"the split has {split.num_tokens} tokens, one window of W={window} needs {window + 1}")
    return num_windows


def batch_maker(batch_size: int, window: int) -> Callable[[], Tensor]:
    """Makes tensors int64 `(batch_size, window + 1)`, in pinned memory where there is a GPU to copy them to."""
    import torch

    return functools.partial(
        torch.empty, (batch_size, window + 1), dtype=torch.int64, pin_memory=torch.cuda.is_available()
    )


class WindowSampler:
    """Batches of `batch_size` windows of W+1 tokens for one rank among `world_size`.

    Window k is tokens k W … k W + W, both included, across documents and shards. Over all ranks every window of an
    epoch comes exactly once; then the next epoch begins, in another order, in mid-batch if need be.
    """

    def __init__(
        self, split: Split, *, window: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Raises ValueError for a size below 1 or a rank outside the world, DataError for a split without a window."""
        self.num_windows = check_sampling(split, window, batch_size, seed, rank, world_size)
        """Full windows in the split."""
        self._sampler = Sampler(
            split.rust, window=window, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self._draw = _pinned_draw(self._sampler, batch_size, window) or _plain_draw(self._sampler)

    @property
    def windows_per_epoch(self) -> int:
        """Windows that all ranks together draw in one epoch: all of them."""
        return self.num_windows

    def batch(self, step: int) -> Tensor:
        """Windows of this rank at `step` (from 0), int64 `(batch_size, W + 1)`. Raises ValueError below 0."""
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        return self._draw(step)


def _plain_draw(sampler: Sampler) -> Callable[[int], Tensor]:
    """Draws a step into an array that Rust makes, which costs less than a tensor that is made to be filled."""
    from torch import from_numpy

    batch = sampler.batch
    return lambda step: from_numpy(batch(step))


def _pinned_draw(sampler: Sampler, batch_size: int, window: int) -> Callable[[int], Tensor] | None:
    """Draws a step into pinned memory; None where there is no GPU to copy it to."""
    import torch

    if not torch.cuda.is_available():
        return None
    new_batch = batch_maker(batch_size, window)

    def draw(step: int) -> Tensor:
        tokens = new_batch()
        sampler.fill(tokens.numpy(), step)
        return tokens

    return draw
