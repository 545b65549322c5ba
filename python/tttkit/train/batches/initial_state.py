"""`carry = lanes`: contiguous text in every row, whose state runs on from window to window.

The state at the end of a window, detached, starts the next window of that lane. It is held as the difference from the
learned initial fast weights, which therefore receive their gradient in every step. Lanes belong to the update, not to
the micro-batch: accumulation reads the same lanes as one large batch would.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttkit.config.run import Config, TrainConfig
from tttkit.data.lane_sampler import LaneSampler
from tttkit.data.split import Split
from tttkit.models.state import ModelState
from tttkit.train.batches.curriculum import Stage, stages_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tttkit.models import CompiledModel, LanguageModel

_RESET_STREAM = 1
_PREFIX = "lanes."


def first_lane_step(config: TrainConfig) -> int | None:
    """The first update (from 1) that reads lanes; None where none does."""
    return None if config.initial_state == "zero" else 1 + round(config.initial_state_from * config.max_steps)


def warnings_about(config: Config) -> list[str]:
    """What is allowed, but hardly meant."""
    size = config.model.mini_batch_size
    if config.model.architecture != "ttt" or size not in {stage.window for stage in stages_of(config.train)}:
        return []
    why = "every window is one inner step, so no recurrence is trained within it"
    which = "a window of train.stages" if config.train.stages else "train.window"
    return [f"model.mini_batch_size equals {which} ({size}): {why}"]


class Lanes:
    """Windows of all lanes of an update, and the states between them, which change when an update is committed.

    The lanes are those of one stage: where the next begins, with windows of another length, they start afresh.
    """

    def __init__(
        self, model: LanguageModel, run: LanguageModel | CompiledModel, split: Split, config: TrainConfig, stage: Stage
    ) -> None:
        """`run` is the model as it is trained, compiled or not. Raises DataError where the text is too short."""
        first = first_lane_step(config)
        assert first is not None
        self.first_step = first
        """The first update of the run that reads lanes."""
        self.num_lanes = stage.num_windows
        self._model = model
        self._run = run
        self._config = config
        self._window = stage.window
        self._sampler = LaneSampler(split, window=stage.window, batch_size=self.num_lanes, seed=config.seed)
        self._num_fresh = round(config.initial_state_zero_share * self.num_lanes)
        self._state: ModelState | None = None
        self._before: ModelState | None = None
        self._after: list[ModelState] = []

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """Windows (lanes, W+1) of update `step`, and the lanes that start it afresh, (lanes,) bool; changes nothing."""
        tokens, ended = self._sampler.batch(step - self.first_step)
        return tokens, self._resets(step, ended)

    def begin(self, resets: Tensor) -> None:
        """An update begins, whose windows are to be read in order; what an attempt before left is forgotten."""
        before = self._fresh() if self._state is None else self._state
        self._before = before.reset(resets.to(self._model.device))
        self._after = []

    def state_before(self, num_lanes: int) -> ModelState:
        """The state from which the first lanes read the last windows."""
        assert self._before is not None
        return self._before.select(range(num_lanes))

    def hidden(self, inputs: Tensor) -> Tensor:
        """Final hidden states (b, W, D) of the next b lanes, given their windows without the last token (b, W)."""
        assert self._before is not None
        first = sum(state.batch_size for state in self._after)
        state = self._before.select(range(first, first + inputs.shape[0]))
        hidden, after = self._run.advance(inputs, state)
        self._after.append(after.detach())
        return hidden

    def commit(self) -> None:
        """The update was applied: lanes go on from where they are now."""
        joined = ModelState.stack(self._after)
        # positions repeat, so that compiled code sees one only; of the text, a TTT layer counts the place in a window
        self._state = ModelState(position=self._window, layers=joined.layers)

    def health(self) -> Tensor:
        """0, or NaN where the fast weights that the next windows would start from are not finite; on their device."""
        tensors = [tensor for state in self._after for layer in state.layers for tensor in layer.values()]
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all()
        return torch.where(finite, 0.0, math.nan)

    def forget(self) -> None:
        """The update was left out, its numbers were not finite: all lanes start afresh."""
        self._state = None

    def tensors(self) -> dict[str, Tensor]:
        """What a saved run needs of the lanes; nothing before the first of their updates."""
        if self._state is None:
            return {}
        flat = self._state.to_tensors()
        # at the end of a window nothing is pending
        return {f"{_PREFIX}{name}": tensor for name, tensor in flat.items() if ".pending" not in name}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave, among the tensors of a saved run."""
        found = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
        self._state = None
        if found:
            flat = {**self._fresh().to_tensors(), **found}
            self._state = ModelState.from_tensors(flat).map(lambda _, tensor: tensor.to(self._model.device))

    def _fresh(self) -> ModelState:
        fresh = self._model.initial_state(self.num_lanes).detach()
        return ModelState(position=self._window, layers=fresh.layers)

    def _resets(self, step: int, ended: Tensor) -> Tensor:
        """Lanes that start afresh: their document ended, chance says so, or they always do. (lanes,) bool."""
        always = torch.arange(self.num_lanes) < self._num_fresh
        chance = np.random.default_rng((self._config.seed, step, _RESET_STREAM)).random(self.num_lanes)
        return ended | always | torch.from_numpy(chance < self._config.initial_state_reset)
