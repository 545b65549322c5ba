"""What an update reads: shuffled windows with a fresh state, or lanes whose state runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tttkit.config import TrainConfig
from tttkit.data.split import Split
from tttkit.data.window_sampler import WindowSampler
from tttkit.models import compiled
from tttkit.models.inner_metrics import inner_metrics
from tttkit.train.carry import Lanes

if TYPE_CHECKING:
    from tttkit.models import LanguageModel

_MAX_WATCHED = 8
"""Windows whose inner loops are watched: enough for a mean, few enough to cost nothing."""
_MIN_COMPILED_FLOP = 5e13
"""Training on a CPU that is worth compiling for: five minutes on two cores, of which a sixth is gained at least."""


class Feed:
    """Windows of each update, read by the model: `windows`, then `hidden` of their parts in order, then `settle`."""

    def __init__(self, model: LanguageModel, split: Split, config: TrainConfig) -> None:
        """The model is on its device. Raises DataError where the text is too short."""
        self._model = model
        self._run = compiled(model, enabled=_may_compile(model, config))
        self._windows = torch.empty(0, dtype=torch.int64)
        self._num_parts = config.grad_accumulation
        self._sampler = WindowSampler(split, window=config.window, batch_size=config.batch_size, seed=config.seed)
        self._lanes = Lanes(model, self._run, split, config) if config.carry == "lanes" else None
        self._reads_lanes = False

    @property
    def how(self) -> str:
        """How the model runs, compiled or eager, and why, in one line."""
        return self._run.reason

    def windows(self, step: int) -> Tensor:
        """All windows of update `step` (from 1), int64 (batch_size x grad_accumulation, W + 1)."""
        self._reads_lanes = self._lanes is not None and self._lanes.is_active(step)
        if self._lanes is not None and self._reads_lanes:
            self._windows = self._lanes.windows(step)
        else:
            first = (step - 1) * self._num_parts
            self._windows = torch.cat([self._sampler.batch(first + part) for part in range(self._num_parts)])
        return self._windows

    def hidden(self, inputs: Tensor) -> Tensor:
        """Final hidden states (b, W, D) of the next b windows of the update, given without their last token."""
        if self._lanes is not None and self._reads_lanes:
            return self._lanes.hidden(inputs)
        return self._run.hidden(inputs)

    def settle(self, *, applied: bool) -> None:
        """The update is over: lanes go on from where they are, or afresh where it was left out as not finite."""
        if self._lanes is None or not self._reads_lanes:
            return
        if applied:
            self._lanes.commit()
        else:
            self._lanes.forget()

    def inner_record(self) -> dict[str, Any]:
        """What the inner loops do with the first windows of the last update, for metrics.jsonl; {} without any."""
        if self._model.config.architecture != "ttt":
            return {}
        inputs = self._windows[:_MAX_WATCHED, :-1].to(self._model.device)
        state = None
        if self._lanes is not None and self._reads_lanes:
            state = self._lanes.state_before(inputs.shape[0])
        return inner_metrics(self._model, inputs, state).to_record()

    def tensors(self) -> dict[str, Tensor]:
        """What a saved run needs beside weights and optimizer: the states of the lanes."""
        return {} if self._lanes is None else self._lanes.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave, among the tensors of a saved run."""
        if self._lanes is not None:
            self._lanes.load(tensors)


def _may_compile(model: LanguageModel, config: TrainConfig) -> bool | None:
    """Whether to compile, where that is possible; None leaves it to the device."""
    if config.compile is not None or model.device.type != "cpu":
        return config.compile
    tokens = config.max_steps * config.window * config.batch_size * config.grad_accumulation
    return 6.0 * tokens * sum(parameter.numel() for parameter in model.parameters()) >= _MIN_COMPILED_FLOP
