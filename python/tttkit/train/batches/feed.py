"""The input of an update: windows of the text, and the states that they start from.

Every rank reads its part of the windows of an update. Which windows an update has does not depend on the number of
ranks. Shapes: R windows of one update on this rank, b windows of one micro-batch, W window length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tttkit.config.run import TrainConfig
from tttkit.data.split import Split
from tttkit.data.window_sampler import WindowSampler
from tttkit.distributed.ranks import Ranks
from tttkit.train.batches.curriculum import Stage, stage_index, stages_of
from tttkit.train.batches.initial_state import ContiguousStates, InitialStates, PassedStates
from tttkit.train.batches.random_states import RandomStates
from tttkit.train.batches.read_ahead import ReadAhead

if TYPE_CHECKING:
    from tttkit.models import LanguageModel
    from tttkit.models.state import ModelState

_MAX_DIAGNOSED = 8
"""Number of windows that diagnostics read: enough for a mean, few enough to cost almost nothing."""


class Feed:
    """The windows of each update and their initial states.

    For each update call `windows`; then for each micro-batch in order `initial_state` and, unless that returns None,
    `keep_state`; then `end_update`. A thread reads the windows of the next updates ahead; `close` ends it.
    """

    def __init__(
        self,
        model: LanguageModel,
        split: Split,
        config: TrainConfig,
        ranks: Ranks | None = None,
        whole_model: Callable[[], LanguageModel] | None = None,
    ) -> None:
        """Take a model that is on its device already. Raises DataError if the text is too short.

        If it is sharded, `whole_model` returns a model with all weights, and all ranks must call it.
        """
        ranks = ranks or Ranks()
        self._whole_model = whole_model or (lambda: model)
        model = self._whole_model()
        self._windows = torch.empty(0, dtype=torch.int64)
        self._stages = stages_of(config)
        self._sources = [_Source(model, split, config, stage, ranks) for stage in self._stages]
        self._source = self._sources[0]
        self._states: InitialStates | None = None
        self._ahead = ReadAhead(self._read, last_step=config.max_steps)
        self._tokens_per_step = config.tokens_per_step
        self.flops_per_step = config.tokens_per_step * model.flops_per_token(config.window)
        """Floating-point operations of one update over windows of `train.window`."""

    @property
    def window(self) -> int:
        """Training window of the last update, in tokens."""
        return self._source.stage.window

    @property
    def has_states(self) -> bool:
        """Whether the last update began with states; the initial states of the next one then follow from it."""
        return self._states is not None

    def windows(self, step: int) -> Tensor:
        """Return all windows of update `step` (from 1), int64 (R, W + 1); a second call begins the update again."""
        source = self._at(step)
        if source is not self._source and self._source.states is not None:
            # frees the memory of a finished stage
            self._source.states.forget()
        self._source = source
        self._windows, resets = self._ahead.get(step)
        self._states = source.states if resets is not None else None
        if self._states is not None and resets is not None:
            self._states.begin_update(step, resets)
        return self._windows

    def initial_state(self, num_windows: int) -> ModelState | None:
        """Return the initial states of the next `num_windows` windows of the update; None if they start from zero."""
        return None if self._states is None else self._states.next_states(num_windows)

    def keep_state(self, after: ModelState) -> None:
        """Keep the states after the windows whose initial states were returned last."""
        assert self._states is not None
        self._states.add(after)

    def finite_or_nan(self) -> Tensor | float:
        """Return 0, or NaN if an initial state of the next update is not finite, which no loss shows yet."""
        return 0.0 if self._states is None else self._states.finite_or_nan()

    def end_update(self, *, applied: bool) -> None:
        """End the update; `applied` False means that it was skipped because its numbers were not finite."""
        if self._states is not None:
            self._states.end_update(applied=applied)

    def close(self) -> None:
        """Stop reading ahead; the thread has ended when this returns."""
        self._ahead.close()

    def diagnostics(self) -> dict[str, list[float]]:
        """Return `LanguageModel.diagnostics` of the first windows of the last update, from their initial states."""
        model = self._whole_model()
        inputs = self._windows[:_MAX_DIAGNOSED, :-1].to(model.device)
        state = None if self._states is None else self._states.first_states(inputs.shape[0])
        return model.diagnostics(inputs, state)

    def tensors(self) -> dict[str, Tensor]:
        """Return the recurrent states of this rank's rows."""
        return {} if self._source.states is None else self._source.states.tensors()

    def tensors_of_all(self) -> dict[str, Tensor]:
        """Return the states of all ranks, which a training checkpoint must hold. All ranks must call it."""
        return {} if self._source.states is None else self._source.states.tensors_of_all()

    def load(self, tensors: Mapping[str, Tensor], step: int, tokens_seen: int | None = None) -> None:
        """Continue after update `step` from the result of `tensors_of_all()`; other tensors are ignored.

        `tokens_seen` are the tokens of these updates. If some had another size than the present ones, shuffled windows
        continue where they ended, so that no window of an epoch is left out or read twice.
        """
        self._ahead.close()
        ahead = 0 if tokens_seen is None else tokens_seen - step * self._tokens_per_step
        for source in self._sources:
            source.shift(ahead // source.stage.window)
            if source.states is not None:
                source.states.forget()
        self._source = self._at(step)
        if self._source.states is not None:
            self._source.states.load(tensors)

    def _at(self, step: int) -> _Source:
        return self._sources[stage_index(self._stages, step)]

    def _read(self, step: int) -> tuple[Tensor, Tensor | None]:
        return self._at(step).read(step)


class _Source:
    """The windows and initial states of the updates of one stage."""

    def __init__(self, model: LanguageModel, split: Split, config: TrainConfig, stage: Stage, ranks: Ranks) -> None:
        self.stage = stage
        self.states = _initial_states(model, split, config, stage, ranks)
        self._world = ranks.world
        self._split = split
        self._seed = config.seed
        self.shift(0)

    def shift(self, num_windows: int) -> None:
        """Read all windows `num_windows` later in the order of the epoch than the number of the update says."""
        size = self.stage.num_windows // self._world.size
        # the sampler starts at multiples of its batch, so a batch that divides the shift starts at the right window
        batch = math.gcd(size, num_windows)
        self._sampler = WindowSampler(self._split, window=self.stage.window, batch_size=batch, seed=self._seed)
        self._num_batches = size // batch
        self._first_batch = num_windows // batch + self._world.rank * self._num_batches

    def read(self, step: int) -> tuple[Tensor, Tensor | None]:
        """Return the windows of an update, int64 (R, W + 1), and which rows start from zero, None if all do."""
        states = self.states
        if states is None or step < states.first_step:
            return self._shuffled(step), None
        return states.read(step, None if isinstance(states, ContiguousStates) else self._shuffled(step))

    def _shuffled(self, step: int) -> Tensor:
        first = (step - 1) * self._num_batches * self._world.size + self._first_batch
        if self._num_batches == 1:
            return self._sampler.batch(first)
        return torch.cat([self._sampler.batch(first + index) for index in range(self._num_batches)])


def _initial_states(
    model: LanguageModel, split: Split, config: TrainConfig, stage: Stage, ranks: Ranks
) -> InitialStates | None:
    """Return the initial states of a stage as `train.initial_state` says; None if every window starts from zero."""
    if config.initial_state == "zero":
        return None
    if config.initial_state == "contiguous":
        return ContiguousStates(model, split, config, stage, ranks)
    if config.initial_state == "passed":
        return PassedStates(model, config, stage, ranks)
    return RandomStates(model, config, stage, ranks)
