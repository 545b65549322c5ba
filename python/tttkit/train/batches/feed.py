"""What an update reads: shuffled windows with a fresh state, or lanes whose state runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tttkit.config.run import TrainConfig
from tttkit.data.split import Split
from tttkit.data.window_sampler import WindowSampler
from tttkit.models import compiled
from tttkit.models.inner_metrics import inner_metrics
from tttkit.train.batches.curriculum import Stage, stage_index, stages_of
from tttkit.train.batches.initial_state import Lanes
from tttkit.train.batches.read_ahead import ReadAhead

if TYPE_CHECKING:
    from tttkit.models import CompiledModel, LanguageModel

_MAX_WATCHED = 8
"""Windows whose inner loops are watched: enough for a mean, few enough to cost nothing."""
_MIN_COMPILED_FLOP = 5e13
"""Training on a CPU that is worth compiling for: five minutes on two cores, of which a sixth is gained at least."""


class Feed:
    """Windows of each update, read by the model: `windows`, then `hidden` of their parts in order, then `settle`.

    The windows are read ahead on a thread of their own, which `close` ends.
    """

    def __init__(self, model: LanguageModel, split: Split, config: TrainConfig) -> None:
        """The model is on its device. Raises DataError where the text is too short."""
        self._model = model
        self._run = compiled(model, enabled=_may_compile(model, config))
        self._windows = torch.empty(0, dtype=torch.int64)
        self._stages = stages_of(config)
        self._sources = [_Source(model, self._run, split, config, stage) for stage in self._stages]
        self._source = self._sources[0]
        self._lanes: Lanes | None = None
        self._ahead = ReadAhead(self._read, last_step=config.max_steps)

    @property
    def how(self) -> str:
        """How the model runs, compiled or eager, and why, in one line."""
        return self._run.reason

    @property
    def window(self) -> int:
        """Training window of the last update, in tokens."""
        return self._source.stage.window

    @property
    def in_lanes(self) -> bool:
        """Whether the last update read lanes, which the next one goes on from."""
        return self._lanes is not None

    def windows(self, step: int) -> Tensor:
        """All windows of update `step` (from 1), int64 (windows, W + 1)."""
        source = self._at(step)
        if source is not self._source and self._source.lanes is not None:
            self._source.lanes.forget()  # the memory of a stage that is over
        self._source = source
        self._windows, resets = self._ahead.get(step)
        self._lanes = source.lanes if resets is not None else None
        if self._lanes is not None and resets is not None:
            self._lanes.begin(resets)
        return self._windows

    def hidden(self, inputs: Tensor) -> Tensor:
        """Final hidden states (b, W, D) of the next b windows of the update, given without their last token."""
        return self._run.hidden(inputs) if self._lanes is None else self._lanes.hidden(inputs)

    def health(self) -> Tensor | float:
        """0, or NaN where what the update leaves to the next one is not finite: fast weights may blow up unseen."""
        return 0.0 if self._lanes is None else self._lanes.health()

    def settle(self, *, applied: bool) -> None:
        """The update is over: lanes go on from where they are, or afresh where it was left out as not finite."""
        if self._lanes is None:
            return
        if applied:
            self._lanes.commit()
        else:
            self._lanes.forget()

    def close(self) -> None:
        """Read nothing ahead any more; the thread has ended when this returns."""
        self._ahead.close()

    def inner_record(self) -> dict[str, Any]:
        """What the inner loops do with the first windows of the last update, for metrics.jsonl; {} without any."""
        if self._model.config.architecture != "ttt":
            return {}
        inputs = self._windows[:_MAX_WATCHED, :-1].to(self._model.device)
        state = None
        if self._lanes is not None:
            state = self._lanes.state_before(inputs.shape[0])
        return inner_metrics(self._model, inputs, state).to_record()

    def tensors(self) -> dict[str, Tensor]:
        """What a saved run needs beside weights and optimizer: the states of the lanes."""
        return {} if self._source.lanes is None else self._source.lanes.tensors()

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go on after update `step` from what `tensors` gave then, among the tensors of a saved run."""
        for source in self._sources:
            if source.lanes is not None:
                source.lanes.forget()
        self._source = self._at(step)
        if self._source.lanes is not None:
            self._source.lanes.load(tensors)

    def _at(self, step: int) -> _Source:
        return self._sources[stage_index(self._stages, step)]

    def _read(self, step: int) -> tuple[Tensor, Tensor | None]:
        return self._at(step).read(step)


class _Source:
    """What the updates of one stage read."""

    def __init__(
        self, model: LanguageModel, run: CompiledModel, split: Split, config: TrainConfig, stage: Stage
    ) -> None:
        self.stage = stage
        self.lanes = Lanes(model, run, split, config, stage) if config.initial_state == "contiguous" else None
        self._sampler = WindowSampler(split, window=stage.window, batch_size=stage.num_windows, seed=config.seed)

    def read(self, step: int) -> tuple[Tensor, Tensor | None]:
        """Windows of an update, int64 (windows, W + 1), and the lanes to reset before it, None where it reads none."""
        if self.lanes is not None and step >= self.lanes.first_step:
            return self.lanes.read(step)
        return self._sampler.batch(step - 1), None


def _may_compile(model: LanguageModel, config: TrainConfig) -> bool | None:
    """Whether to compile, where that is possible; None leaves it to the device."""
    if config.compile is not None or model.device.type != "cpu":
        return config.compile
    tokens = config.max_steps * config.tokens_per_step
    return 6.0 * tokens * sum(parameter.numel() for parameter in model.parameters()) >= _MIN_COMPILED_FLOP
