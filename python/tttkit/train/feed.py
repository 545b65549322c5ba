"""What an update reads: shuffled windows with a fresh state, or lanes whose state runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tttkit.config import TrainConfig
from tttkit.data.split import Split
from tttkit.data.window_sampler import WindowSampler
from tttkit.models.inner_metrics import inner_metrics
from tttkit.train.carry import Lanes

if TYPE_CHECKING:
    from tttkit.models import CompiledModel, LanguageModel

_MAX_WATCHED = 8
"""Windows whose inner loops are watched: enough for a mean, few enough to cost nothing."""


class Feed:
    """Windows of each update and their logits. Use: `windows`, `logits` for its parts in order, then `settle`."""

    def __init__(
        self, model: LanguageModel, run: LanguageModel | CompiledModel, split: Split, config: TrainConfig
    ) -> None:
        """`run` is the model as it is trained, compiled or not. Raises DataError where the text is too short."""
        self._model = model
        self._run = run
        self._windows = torch.empty(0, dtype=torch.int64)
        self._num_parts = config.grad_accumulation
        self._sampler = WindowSampler(split, window=config.window, batch_size=config.batch_size, seed=config.seed)
        self._lanes = Lanes(model, run, split, config) if config.carry == "lanes" else None
        self._reads_lanes = False

    def windows(self, step: int) -> Tensor:
        """All windows of update `step` (from 1), int64 (batch_size x grad_accumulation, W + 1)."""
        self._reads_lanes = self._lanes is not None and self._lanes.is_active(step)
        if self._lanes is not None and self._reads_lanes:
            self._windows = self._lanes.windows(step)
        else:
            first = (step - 1) * self._num_parts
            self._windows = torch.cat([self._sampler.batch(first + part) for part in range(self._num_parts)])
        return self._windows

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits (b, W, V) of the next b windows of the update, given without their last token."""
        if self._lanes is not None and self._reads_lanes:
            return self._lanes.logits(inputs)
        logits: Tensor = self._run(inputs)
        return logits

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
