"""The recurrent state of a model as a value: what a segment of text leaves behind for the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LayerState = dict[str, Tensor]
"""Named tensors of one block, batch first. A fresh state is all zeros or of length zero."""


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """State after `position` tokens of every row. A value: no call changes it in place.

    Fast weights are held as the difference from the learned initial ones (`delta*`, (B, H, rows + 1, columns), the last
    row is the bias) and as the sum of the current mini-batch that is not applied yet (`pending*`, same shape), float32.
    So a detached state still lets the initial weights receive their gradient from the next segment. Attention layers
    hold `keys` and `values` (B, H, n, d); convolutions hold their last inputs.
    """

    position: int
    layers: tuple[LayerState, ...]

    @property
    def batch_size(self) -> int:
        """Number of rows B."""
        return next(iter(self.layers[0].values())).shape[0]

    def map(self, function: Callable[[str, Tensor], Tensor]) -> ModelState:
        """The state with `function(name, tensor)` in place of every tensor."""
        layers = tuple({name: function(name, tensor) for name, tensor in layer.items()} for layer in self.layers)
        return ModelState(position=self.position, layers=layers)

    def detach(self) -> ModelState:
        """Cut the graph: no gradient flows through this state, but later segments still reach the initial weights."""
        return self.map(lambda _, tensor: tensor.detach())

    def reset(self, rows: Tensor) -> ModelState:
        """The state with the rows where `rows`, (B,) bool, is true as before any text: a TTT state, which is all zeros.

        The position stays: of a TTT model only its place in the mini-batch counts.
        """
        return self.map(lambda _, tensor: tensor.masked_fill(rows.view(-1, *[1] * (tensor.ndim - 1)), 0.0))

    def select(self, rows: Sequence[int] | Tensor) -> ModelState:
        """Rows of the batch, in the order given."""
        index = torch.as_tensor(rows)
        return self.map(lambda _, tensor: tensor[index.to(tensor.device)])

    @staticmethod
    def stack(states: Sequence[ModelState]) -> ModelState:
        """Join the rows of states of the same position. Raises ValueError where positions or shapes differ."""
        positions = {state.position for state in states}
        if len(positions) != 1:
            raise ValueError(f"states must all have the same position, got {sorted(positions)}")
        layers = tuple(
            {name: torch.cat([layer[name] for layer in same]) for name in same[0]}
            for same in zip(*(state.layers for state in states), strict=True)
        )
        return ModelState(position=positions.pop(), layers=layers)

    def to_tensors(self) -> dict[str, Tensor]:
        """Flat, contiguous tensors for a safetensors file."""
        flat = {f"layers.{i}.{n}": t.contiguous() for i, layer in enumerate(self.layers) for n, t in layer.items()}
        return {"position": torch.tensor(self.position), **flat}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> ModelState:
        """The inverse of `to_tensors`. Raises ValueError where a name is none of a state's."""
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
