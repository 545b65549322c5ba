"""FSDP2: weights, gradients and moments are sharded over the ranks, a block at a time.

Each block gathers its weights before its forward and backward pass and frees them afterwards. With `train.precision =
bf16` the weights of linear projections are gathered in bf16, in which autocast multiplies anyway, so results do not
change. Fast weights, gates and norms are gathered in float32; shards are float32 and gradients are reduced in it. What
needs the whole model (evaluations, exports, diagnostics) uses a copy with all weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from tttkit.models import LanguageModel
from tttkit.models.layers import SequenceLayer
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


def shard(model: LanguageModel, world: World, precision: str | None = None) -> Callable[[], LanguageModel]:
    """Shard a model in place, and return the function that gives a copy with all weights on every rank.

    `precision` is `train.precision`; with bf16 the caller runs the model under autocast.
    """
    # imported late: a run of one process needs none of it
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    copied = WholeModel(model)
    mesh = init_device_mesh(model.device.type, (world.size,))
    policy = MixedPrecisionPolicy()  # gathers weights and reduces gradients in the dtype of the shards
    in_bf16 = policy
    if precision == "bf16" and hasattr(policy, "param_dtype_override_fn"):  # older versions of torch gather float32
        rounded = {id(weight) for block in model.model.layers for weight in _multiplied_in_bf16(block)}
        in_bf16 = MixedPrecisionPolicy(
            torch.bfloat16,
            torch.float32,
            cast_forward_inputs=False,
            param_dtype_override_fn=lambda weight: None if id(weight) in rounded else weight.dtype,
        )
    for block in model.model.layers:
        fully_shard(block, mesh=mesh, mp_policy=in_bf16)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return copied.refreshed


def _multiplied_in_bf16(block: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the weights of a block that autocast rounds to bf16 in every product."""
    layer = block.get_submodule("seq_modeling_block")
    assert isinstance(layer, SequenceLayer)
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] not in layer.float32_projections:
            yield cast("nn.Parameter", module.weight)


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
