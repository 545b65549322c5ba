"""The initial states of windows: `train.initial_state`.

- `contiguous`: every row of a batch reads contiguous text. The state at the end of its window, detached, is the initial
  state of its next window (truncated back-propagation through time).
- `passed`: windows are shuffled. The memory at the end of a row's window is the initial memory of the row's next
  window, which belongs to another text.
- `gaussian`, `fitted`: windows are shuffled, and the initial memories are drawn at random (`random_states.py`).

The state is kept as the difference from the learned initial fast weights, which therefore receive their gradient in
every step. A row belongs to the update, not to the micro-batch: accumulation reads the same rows as one large batch
does. `passed`, `gaussian` and `fitted` are three of the ways to reach states that training from zero never sees in
Ruiz and Gu 2025, arXiv 2507.02782. Every rank has an equal part of the rows; a training checkpoint holds all of them,
so a run may resume on another number of ranks. Shapes: R rows of this rank (its windows of one update), b rows of one
micro-batch, W window length.
"""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttkit.config.run import Config, TrainConfig
from tttkit.data.contiguous_sampler import ContiguousSampler
from tttkit.data.split import Split
from tttkit.distributed.ranks import Ranks
from tttkit.models.state import ModelState, is_memory
from tttkit.train.batches.curriculum import Stage, stages_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tttkit.models import LanguageModel

_RESET_STREAM = 1


def first_step_with_states(config: TrainConfig) -> int | None:
    """Return the first update (from 1) whose windows start from other states than zero; None if none does."""
    return None if config.initial_state == "zero" else 1 + round(config.initial_state_from * config.max_steps)


def warnings_about(config: Config) -> list[str]:
    """Return warnings about settings that are valid but probably unintended."""
    size = config.model.mini_batch_size
    if not config.model.has_state or size not in {stage.window for stage in stages_of(config.train)}:
        return []
    why = "every window is one inner step, so no recurrence is trained within it"
    which = "a window of train.stages" if config.train.stages else "train.window"
    return [f"model.mini_batch_size equals {which} ({size}): {why}"]


class InitialStates(abc.ABC):
    """The initial states of the windows of an update, made from the states after the windows of the last one.

    The rows belong to one stage. The next stage has windows of another length, and its rows start from zero.
    """

    def __init__(self, model: LanguageModel, config: TrainConfig, stage: Stage, ranks: Ranks | None = None) -> None:
        """Keep no state yet."""
        self._ranks = ranks or Ranks()
        first = first_step_with_states(config)
        assert first is not None
        self.first_step = first
        """The first update of the run whose windows start from other states than zero."""
        self._num_rows_of_all = stage.num_windows
        self.num_rows = stage.num_windows // self._ranks.world.size
        self._model = model
        self._config = config
        self._window = stage.window
        self._num_always_zero = round(config.initial_state_zero_share * self._num_rows_of_all)
        self._before: ModelState | None = None
        self._after: list[ModelState] = []

    @abc.abstractmethod
    def forget(self) -> None:
        """Start all rows from zero in the next update."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return what this rank knows; empty before the first update with states."""

    def tensors_of_all(self) -> dict[str, Tensor]:
        """Return what all ranks know, which a training checkpoint must hold. All ranks must call it."""
        return self.tensors()

    @abc.abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore this rank's part of `tensors_of_all`, given all tensors of a training checkpoint."""

    @abc.abstractmethod
    def _initial(self, step: int) -> ModelState | None:
        """Return the initial states of all rows in update `step`; None if all start from zero."""

    @abc.abstractmethod
    def _learn(self, after: ModelState) -> None:
        """Take over the states after the windows of an update that was applied."""

    def read(self, step: int, shuffled: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the windows (R, W+1) of update `step`, and which rows start from zero, (R,) bool; change nothing.

        `shuffled` are the windows of the update in shuffled order, None for states that choose their windows.
        """
        assert shuffled is not None
        return shuffled, self._resets(step)

    def begin_update(self, step: int, resets: Tensor) -> None:
        """Begin update `step`, whose rows are then read in order; forget an earlier attempt at it."""
        before = self._initial(step) or self._zero()
        self._before = before.reset(resets.to(self._model.device))
        self._after = []

    def first_states(self, num_rows: int) -> ModelState:
        """Return the initial states of the first `num_rows` windows of the update."""
        assert self._before is not None
        return self._before.select(range(num_rows))

    def next_states(self, num_rows: int) -> ModelState:
        """Return the initial states of the next `num_rows` windows of the update."""
        assert self._before is not None
        first = sum(state.batch_size for state in self._after)
        return self._before.select(range(first, first + num_rows))

    def add(self, after: ModelState) -> None:
        """Keep the states after the windows whose initial states were returned last."""
        self._after.append(after.detach())

    def end_update(self, *, applied: bool) -> None:
        """End the update: the next initial states follow from its last states; all are zero if it was skipped."""
        if not applied:
            self.forget()
            return
        joined = ModelState.stack(self._after)
        # The position is always the same, so that code is compiled once: a TTT layer needs only the place in a window.
        self._learn(ModelState(position=self._window, layers=joined.layers))

    def finite_or_nan(self) -> Tensor:
        """Return 0, or NaN if a state after a window is not finite; a scalar on the device of the states."""
        tensors = [tensor for state in self._after for layer in state.layers for tensor in layer.values()]
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()
        return torch.where(finite, 0.0, math.nan)

    def _zero(self) -> ModelState:
        zero = self._model.initial_state(self.num_rows).detach()
        return ModelState(position=self._window, layers=zero.layers)

    def _resets(self, step: int) -> Tensor:
        """Return which rows start from zero, (R,) bool: by chance, or always."""
        always = torch.arange(self._num_rows_of_all) < self._num_always_zero
        chance = np.random.default_rng((self._config.seed, step, _RESET_STREAM)).random(self._num_rows_of_all)
        return self._ranks.own_rows(always | torch.from_numpy(chance < self._config.initial_state_reset))


class PassedStates(InitialStates):
    """`passed`: the memories after the last update are the initial memories of this one, in the same rows.

    Caches of the last tokens start empty, because they would show the window tokens of another text.
    """

    prefix = "passed_state."
    """Begins the names of the tensors in a training checkpoint."""

    def __init__(self, model: LanguageModel, config: TrainConfig, stage: Stage, ranks: Ranks | None = None) -> None:
        """Keep no state yet."""
        super().__init__(model, config, stage, ranks)
        self._state: ModelState | None = None

    def forget(self) -> None:
        """Start all rows from zero in the next update."""
        self._state = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the states; empty before the first update with states."""
        if self._state is None:
            return {}
        flat = self._state.to_tensors()
        # at the end of a window nothing is pending
        return {f"{self.prefix}{name}": tensor for name, tensor in flat.items() if ".pending" not in name}

    def tensors_of_all(self) -> dict[str, Tensor]:
        """Return the states of the rows of all ranks. All ranks must call it."""
        return {name: self._ranks.join_rows(x) if x.ndim else x for name, x in self.tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the states. If the run resumes with another number of rows, all start from zero."""
        saved = {name.removeprefix(self.prefix): x for name, x in tensors.items() if name.startswith(self.prefix)}
        self._state = None
        if {x.shape[0] for x in saved.values() if x.ndim} == {self._num_rows_of_all}:
            own = {name: self._ranks.own_rows(x) if x.ndim else x for name, x in saved.items()}
            state = ModelState.from_tensors({**self._zero().to_tensors(), **own})
            self._state = state.map(lambda _, tensor: tensor.to(self._model.device))

    def _initial(self, step: int) -> ModelState | None:  # noqa: ARG002
        return self._state

    def _learn(self, after: ModelState) -> None:
        self._state = after.map(lambda name, tensor: tensor if is_memory(name) else torch.zeros_like(tensor))


class ContiguousStates(PassedStates):
    """`contiguous`: the states after the last update are the initial states of this one, which reads on in the text."""

    prefix = "initial_state."

    def __init__(
        self, model: LanguageModel, split: Split, config: TrainConfig, stage: Stage, ranks: Ranks | None = None
    ) -> None:
        """Keep no state yet. Raises DataError if the text is too short."""
        super().__init__(model, config, stage, ranks)
        world = self._ranks.world
        self._sampler = ContiguousSampler(
            split, window=stage.window, batch_size=self.num_rows, seed=config.seed, rank=world.rank,
            world_size=world.size,
        )  # fmt: skip

    def read(self, step: int, shuffled: Tensor | None) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the next windows of the text, and which rows start from zero: also after the end of a document."""
        tokens, ended = self._sampler.batch(step - self.first_step)
        return tokens, ended | self._resets(step)

    def _learn(self, after: ModelState) -> None:
        self._state = after
