"""Initial memories drawn at random: `train.initial_state = gaussian | fitted`.

After each update the mean and the standard deviation of the final memories are recorded for each layer and head. The
next update starts its windows from normal noise with the recorded mean (`fitted`) or with mean zero (`gaussian`). The
source is Ruiz and Gu 2025, arXiv 2507.02782; there the standard deviation of `gaussian` is a constant, and here it is a
share of the recorded root mean square, so that one setting fits all heads and layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttkit.distributed.ranks import Ranks
from tttkit.models.state import LayerState, ModelState, is_memory
from tttkit.train.batches.initial_state import InitialStates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tttkit.config.run import TrainConfig
    from tttkit.models import LanguageModel
    from tttkit.train.batches.curriculum import Stage

_PREFIX = "state_moments."
_NOISE_STREAM = 2

Moments = dict[str, Tensor]
"""Mean and mean square of each memory of each layer, (2, H), by `layers.<i>.<name>`."""


class RandomStates(InitialStates):
    """`gaussian` and `fitted`: memories with the moments of the last final memories. Caches start empty."""

    def __init__(self, model: LanguageModel, config: TrainConfig, stage: Stage, ranks: Ranks | None = None) -> None:
        """Know no moments yet, so the first update starts from zero."""
        super().__init__(model, config, stage, ranks)
        self.moments: Moments = {}

    def forget(self) -> None:
        """Forget the moments, so the next update starts from zero."""
        self.moments = {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments; empty before the first update with states."""
        return {f"{_PREFIX}{name}": tensor for name, tensor in self.moments.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the moments."""
        self.moments = {
            name.removeprefix(_PREFIX): tensor.to(self._model.device)
            for name, tensor in tensors.items()
            if name.startswith(_PREFIX)
        }

    def _initial(self, step: int) -> ModelState | None:
        if not self.moments:
            return None
        device = self._model.device
        seed = np.random.default_rng((self._config.seed, step, _NOISE_STREAM)).integers(1 << 63)
        generator = torch.Generator(device).manual_seed(int(seed))
        zero = self._zero()
        layers = tuple(self._draw(f"layers.{i}", layer, generator) for i, layer in enumerate(zero.layers))
        return ModelState(position=zero.position, layers=layers)

    def _draw(self, place: str, layer: LayerState, generator: torch.Generator) -> LayerState:
        """Return the state `layer`, which is zero, with random memories."""
        drawn = dict(layer)
        for name, tensor in layer.items():
            if not is_memory(name):
                continue
            mean, square = (value.view(1, -1, 1, 1) for value in self.moments[f"{place}.{name}"])
            deviation = square.sqrt()
            if self._config.initial_state == "fitted":
                deviation = (square - mean.square()).clamp(min=0).sqrt()
            else:
                mean = torch.zeros_like(mean)
            shape = (self._num_rows_of_all, *tensor.shape[1:])
            noise = torch.randn(shape, generator=generator, device=tensor.device, dtype=tensor.dtype)
            noise = self._ranks.own_rows(noise)
            drawn[name] = mean + self._config.initial_state_noise * deviation * noise
        return drawn

    def _learn(self, after: ModelState) -> None:
        self.moments = {
            f"layers.{i}.{name}": self._ranks.mean(
                torch.stack((tensor.mean((0, 2, 3)), tensor.square().mean((0, 2, 3))))
            )
            for i, layer in enumerate(after.layers)
            for name, tensor in layer.items()
            if is_memory(name)
        }
