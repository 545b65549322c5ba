"""The recurrent state of a model as a value: all that the model keeps of the text it has read.

Shapes: B batch, H heads, n cached tokens, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LayerState = dict[str, Tensor]
"""Named tensors of one block, batch first. The initial state is all zeros, or a cache of length zero."""


def is_memory(name: str) -> bool:
    """Whether a tensor of a layer's state is what the layer remembers: fast weights or a matrix, (B, H, rows, columns).

    The others are caches of the last tokens, momentum, and sums of the current inner mini-batch.
    """
    return name == "memory" or name.startswith("delta")


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """State after `position` tokens of every row. A value: no call changes it in place.

    A TTT layer keeps its fast weights as the difference from the learned initial ones (`delta*`, (B, H, rows + 1,
    columns), float32, the bias as the last row), so the initial weights receive a gradient from the next segment even
    if the state is detached. The sum of the current mini-batch, not applied yet, is `pending*`, of the same shape.
    Attention layers keep `keys` and `values`, (B, H, n, d); convolutions keep their last inputs; the other layers keep
    what their `initial_state` says. A row of zeros is the start of a text in every layer that has a state.
    """

    position: int
    layers: tuple[LayerState, ...]

    @property
    def batch_size(self) -> int:
        """Number of rows B."""
        return next(iter(self.layers[0].values())).shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for layer in self.layers for tensor in layer.values())

    def map(self, function: Callable[[str, Tensor], Tensor]) -> ModelState:
        """Return the state with `function(name, tensor)` in place of every tensor."""
        layers = tuple({name: function(name, tensor) for name, tensor in layer.items()} for layer in self.layers)
        return ModelState(position=self.position, layers=layers)

    def forked(self) -> ModelState:
        """Return the state itself: a value can be continued any number of times."""
        return self

    def detach(self) -> ModelState:
        """Return the state cut from the graph: no gradient flows through it, but the initial weights still get one."""
        return self.map(lambda _, tensor: tensor.detach())

    def reset(self, rows: Tensor) -> ModelState:
        """Return the state with zeros, the initial state of a layer, in the rows where `rows`, (B,) bool, is true.

        The position stays the same, because a layer that has a state depends on the place in its mini-batch only.
        """
        return self.map(lambda _, tensor: tensor.masked_fill(rows.view(-1, *[1] * (tensor.ndim - 1)), 0.0))

    def select(self, rows: Sequence[int] | Tensor) -> ModelState:
        """Return the given rows of the batch, in the order given."""
        index = torch.as_tensor(rows)
        return self.map(lambda _, tensor: tensor[index.to(tensor.device)])

    @staticmethod
    def stack(states: Sequence[ModelState]) -> ModelState:
        """Join the rows of states of the same position. Raises ValueError if the positions differ."""
        positions = {state.position for state in states}
        if len(positions) != 1:
            raise ValueError(f"states must all have the same position, got {sorted(positions)}")
        layers = tuple(
            {name: torch.cat([layer[name] for layer in same]) for name in same[0]}
            for same in zip(*(state.layers for state in states), strict=True)
        )
        return ModelState(position=positions.pop(), layers=layers)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return flat, contiguous tensors for a safetensors file."""
        flat = {f"layers.{i}.{n}": t.contiguous() for i, layer in enumerate(self.layers) for n, t in layer.items()}
        return {"position": torch.tensor(self.position), **flat}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> ModelState:
        """Invert `to_tensors`. Raises ValueError for a name that no state has."""
        if "position" not in tensors:
            raise ValueError("tensors must hold `position`, as ModelState.to_tensors() gives it")
        layers: dict[int, LayerState] = {}
        for name, tensor in tensors.items():
            if name == "position":
                continue
            parts = name.split(".")
            if len(parts) != 3 or parts[0] != "layers" or not parts[1].isdigit():
                raise ValueError(f"tensors has the unknown name `{name}`, expected layers.<i>.<name>")
            layers.setdefault(int(parts[1]), {})[parts[2]] = tensor
        return ModelState(position=int(tensors["position"]), layers=tuple(layers[i] for i in sorted(layers)))


def check_state(state: ModelState, expected: Sequence[LayerState], *, batch_size: int) -> None:
    """Refuse a state of another batch, model, device or precision. Raises ValueError.

    `expected` holds the initial state of every layer of the model, with zero rows.
    """
    if len(state.layers) != len(expected):
        raise ValueError(f"state must have {len(expected)} layers, got {len(state.layers)}")
    for index, (given, wanted) in enumerate(zip(state.layers, expected, strict=True)):
        if given.keys() != wanted.keys():
            raise ValueError(f"state must hold {', '.join(wanted)} in layer {index}, got {', '.join(given)}")
        for name, tensor in given.items():
            _check_tensor(name, tensor, wanted[name])
            if tensor.shape[0] != batch_size:
                raise ValueError(f"state must have as many rows as input_ids, got {tensor.shape[0]} and {batch_size}")


def _check_tensor(name: str, tensor: Tensor, wanted: Tensor) -> None:
    if tensor.device != wanted.device:
        raise ValueError(f"state must be on the model's device {wanted.device}, but {name} is on {tensor.device}")
    # an expected size of zero is the length of a cache, which may be any number
    if tensor.ndim != wanted.ndim or any(
        size not in (0, given) for size, given in zip(wanted.shape, tensor.shape, strict=True)
    ):
        shape = ", ".join(["B", *(str(size or "n") for size in wanted.shape[1:])])
        raise ValueError(f"state must hold {name} of shape ({shape}), got {tuple(tensor.shape)}")
    if (tensor.dtype == torch.float64) != (wanted.dtype == torch.float64) or not tensor.is_floating_point():
        raise ValueError(f"state must be {wanted.dtype} as the model is, but {name} is {tensor.dtype}")
