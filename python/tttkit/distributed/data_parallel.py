"""The model as every rank runs it: gradients are averaged over the ranks by DistributedDataParallel."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tttkit.models.state import ModelState


class _MicroBatch(nn.Module):
    """The forward pass of a micro-batch. The state after it is detached: it takes no part in the gradient."""

    def __init__(self, run: nn.Module) -> None:
        super().__init__()
        self._run = run

    def forward(
        self, input_ids: Tensor, targets: Tensor, state: ModelState | None = None, scored: Tensor | None = None
    ) -> Any:
        """Return the loss, or with a state the loss and the state after the windows."""
        if state is None:
            return self._run(input_ids, targets=targets, scored=scored)
        loss, after = self._run(input_ids, targets=targets, state=state)
        return loss, after.detach()


def data_parallel(run: nn.Module) -> DistributedDataParallel:
    """Return `run` so that the last backward pass of an update averages the gradients over all ranks.

    Parameters without a gradient are searched for in every pass. So all models work, and the buckets never change
    during a run: a resumed run adds in the same order as one that never stopped.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 renames broadcast_buffers
        return DistributedDataParallel(
            _MicroBatch(run), find_unused_parameters=True, gradient_as_bucket_view=True, broadcast_buffers=False
        )


def without_average(run: nn.Module, *, is_last: bool) -> AbstractContextManager[Any]:
    """Return the context for a backward pass: only the last one of an update averages."""
    if is_last or not isinstance(run, DistributedDataParallel):
        return nullcontext()
    return run.no_sync()
