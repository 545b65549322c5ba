"""Step to batch of contiguous lanes: each row walks on through the documents, so that its state can run on too.

The windows of the split form a ring, cut in every epoch into equal stretches, one per lane of all ranks, from a place
that depends on seed and epoch. A batch is a pure function of (seed, step), so a run resumes with one integer; the state
that a lane carries is the trainer's to save.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tttkit._rust import Sampler
from tttkit.data.split import Split
from tttkit.data.window_sampler import batch_maker, check_sampling
from tttkit.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


class LaneSampler:
    """Batches of `batch_size` lanes of one rank among `world_size`; window k is that of `WindowSampler`.

    An epoch is `steps_per_epoch` steps and reads no window twice; the few that do not fill a step of all lanes are left
    out, others in every epoch.
    """

    def __init__(
        self, split: Split, *, window: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        """Raises ValueError for a size below 1 or a rank outside the world, DataError for fewer windows than lanes."""
        self.num_windows = check_sampling(split, window, batch_size, seed, rank, world_size)
        """Full windows in the split."""
        self.steps_per_epoch = self.num_windows // (batch_size * world_size)
        """Windows that each lane reads before it jumps to another place."""
        if self.steps_per_epoch == 0:
            raise DataError(
                f"the split has {self.num_windows} windows of W={window}, too few for {batch_size * world_size} lanes",
                hint="lower the batch size",
            )
        self._sampler = Sampler(
            split.rust, window=window, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        self._new_batch = batch_maker(batch_size, window)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Tokens int64 `(batch_size, W + 1)` at `step` (from 0), and rows to reset before it, bool `(batch_size,)`.

        A row's state is reset before the first window after the one whose targets held its document's end of text, and
        where it jumps: at the first step of an epoch and where the stream begins again. Raises ValueError below 0.
        """
        import torch

        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        tokens = self._new_batch()
        reset = self._sampler.fill_lanes(tokens.numpy(), step)
        return tokens, torch.from_numpy(reset)
