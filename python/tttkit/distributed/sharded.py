"""FSDP2: weights, gradients and moments are sharded over the ranks, a block at a time.

Each block gathers its weights before its forward and backward pass and frees them afterwards. Weights are gathered and
gradients are reduced in float32, so that fast weights keep their precision; products follow `train.precision`. What
needs the whole model (evaluations, exports, diagnostics) uses a copy with all weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tttkit.models import LanguageModel
from tttkit.run.world import World


class WholeModel:
    """A copy of the model with all its weights, refreshed from the shards when it is asked for."""

    def __init__(self, model: LanguageModel) -> None:
        """Copy a model before it is sharded."""
        self.model = copy.deepcopy(model)
        self._sharded = model

    def refreshed(self) -> LanguageModel:
        """Return the copy with the present weights. All ranks must call it."""
        with torch.no_grad():
            for there, here in zip(self.model.parameters(), self._sharded.parameters(), strict=True):
                there.copy_(whole(here))
        return self.model


def shard(model: LanguageModel, world: World) -> Callable[[], LanguageModel]:
    """Shard a model in place, and return the function that gives a copy with all weights on every rank."""
    # imported late: a run of one process needs none of it
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    copied = WholeModel(model)
    mesh = init_device_mesh(model.device.type, (world.size,))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for block in model.model.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return copied.refreshed


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor, which may be sharded; then all ranks must call it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def own_shard(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a tensor, or the tensor itself if it is not sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is a DTensor, without loading the module that defines it."""
    return hasattr(tensor, "full_tensor")


def like(parameter: Tensor, values: Tensor) -> Tensor:
    """Return `values`, all of which every rank has, sharded as `parameter` is and on its device."""
    there = values.to(parameter.device)
    if not is_sharded(parameter) or values.shape != parameter.shape:
        return there
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    return distribute_tensor(there, parameter.device_mesh, parameter.placements, src_data_rank=None)


def set_average(model: nn.Module, *, is_last: bool) -> None:
    """Average gradients over the ranks in the next backward pass only if it is the last of the update."""
    model.set_requires_gradient_sync(is_last)  # type: ignore[operator]
