"""Batches of contiguous rows: each row of a batch reads the stream window after window.

The model's recurrent state at the end of a row's window can therefore start the row's next window. The windows of the
split form a ring. Every epoch cuts it into equal stretches, one per row of all ranks, from a place that depends on seed
and epoch. A batch is a pure function of (seed, step), so a run resumes from one integer; the trainer saves the states
of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tttkit._rust import Sampler
from tttkit.data.split import Split
from tttkit.data.window_sampler import batch_maker, check_sampling
from tttkit.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class ContiguousSampler:
    """Batches of `batch_size` contiguous rows for one rank among `world_size`. Window k is as in `WindowSampler`.

    An epoch takes `steps_per_epoch` steps and reads no window twice. The few windows that do not fill a step of all
    rows are left out; every epoch leaves out different ones.
    """

    def __init__(
        self, split: Split, *, window: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Raise ValueError for a size below 1 or a rank outside the world, DataError for fewer windows than rows."""
        self.num_windows = check_sampling(split, window, batch_size, seed, rank, world_size)
        """Full windows in the split."""
        self.steps_per_epoch = self.num_windows // (batch_size * world_size)
        """Consecutive windows that each row reads before it jumps to another place."""
        if self.steps_per_epoch == 0:
            raise DataError(
                f"the split has {self.num_windows} windows of W={window}, too few for {batch_size * world_size} "
                "contiguous rows",
                hint="lower the batch size",
            )
        self._sampler = Sampler(
            split.rust, window=window, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self._new_batch = batch_maker(batch_size, window)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return tokens int64 `(batch_size, W + 1)` of `step` (from 0) and which rows to reset, bool `(batch_size,)`.

        A row must start its window from the initial state if a document ended within the targets of its preceding
        window, and if the row jumps: at the first step of an epoch, and when the stream begins again. Raises
        ValueError for a step below 0.
        """
        import torch

        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        tokens = self._new_batch()
        reset = self._sampler.fill_contiguous(tokens.numpy(), step)
        return tokens, torch.from_numpy(reset)
