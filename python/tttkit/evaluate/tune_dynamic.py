"""Find the learning rate and the decay of the context `dynamic` for a model, on the training split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.config.dynamic import DynamicConfig
from tttkit.data.split import Split
from tttkit.device import find_device, prepare_device
from tttkit.errors import NumericalError, UsageError
from tttkit.evaluate.bos import bos_in_front, longest_window
from tttkit.evaluate.dynamic import DynamicRule, dynamic_rule
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.request import TRAINING_SPLIT, EvaluationJob, EvaluationRequest, prepare
from tttkit.evaluate.sequences import check_vocabulary, cut_sequences
from tttkit.models.scoring import ScoringModel

_DECADES = {"sgd": range(-4, 3), "rms": range(-7, 1)}
"""Powers of ten that are tried as learning rates, ascending."""
_DECAYS = (0.001, 0.003, 0.01, 0.03, 0.1)
_PATIENCE = 2
"""Rates in a row that are no better than the best one before a search ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings that were tried, and their mean NLL in nats; None if the weights diverged."""

    learning_rate: float
    decay: float
    nll: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunedDynamic:
    """The best settings on the training split, and all that were tried."""

    config: DynamicConfig
    """Its learning rate is 0 if no rate improved the NLL."""
    nll: float
    """Mean NLL of the best settings in nats."""
    full_nll: float
    """Mean NLL of `full` on the same text in nats."""
    trials: tuple[Trial, ...]
    num_tokens: int
    """Tokens that each trial scored."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return dataclasses.asdict(self)


def tune_dynamic(
    request: EvaluationRequest, fields: dict[str, Any], *, progress: Callable[[float], None] | None = None
) -> TunedDynamic:
    """Find rate and decay for the model of a request; `fields` are the other fields of DynamicConfig.

    The sequences are `num_sequences` of T+1 tokens spread over the training split. `progress` is called with
    about the share that is done and may raise to stop. Raises UsageError, DataError, NumericalError.
    """
    request = dataclasses.replace(request, split=TRAINING_SPLIT)
    job = prepare(request)
    device = find_device(request.device)
    prepare_device(device)
    job.model.to(device)
    check_vocabulary(job.model, job.split)
    length = _length(job)
    tokens, _ = cut_sequences(job.split, job.protocol.num_sequences, length)
    return _Search(job.model, tokens, job.bos, fields, job.split, progress).run()


def _length(job: EvaluationJob) -> int:
    """Return the tokens of a sequence, at most what the model can read. Raises UsageError."""
    if not job.model.can_carry:
        raise UsageError(f"the {job.model.name} model cannot be read in segments, which `dynamic` needs")
    longest = longest_window(job.model, bos_in_front(job.model, job.bos))
    return min(job.protocol.max_length, longest or job.protocol.max_length)


class _Search:
    """A search over learning rates, in decades and then half decades, and over decays at the best rate."""

    def __init__(
        self,
        model: ScoringModel,
        tokens: NDArray[np.int64],
        bos: str,
        fields: dict[str, Any],
        training: Split,
        progress: Callable[[float], None] | None,
    ) -> None:
        self._model = model
        self._tokens = tokens
        self._bos = bos
        self._progress = progress
        self._fields = fields
        model.eval()
        self._rule = dynamic_rule(model, DynamicConfig(learning_rate=0.0, **fields), training, training.eos_id)
        self._trials: list[Trial] = []

    def run(self) -> TunedDynamic:
        """Search, and return the best settings."""
        full = self._try(0.0, 0.0)
        waited = 0
        for power in _DECADES[self._rule.config.optimizer]:
            waited = 0 if self._is_better(self._try(10.0**power, 0.0)) else waited + 1
            if waited == _PATIENCE and self._best().learning_rate:
                break
        rate = self._best().learning_rate
        if rate:
            for factor in (10.0**-0.5, 10.0**0.5):
                self._try(float(f"{rate * factor:.2g}"), 0.0)
            rate = self._best().learning_rate
            for decay in _DECAYS:
                if not self._is_better(self._try(rate, decay)):
                    break
        best = self._best()
        if full.nll is None or best.nll is None:
            raise NumericalError("the NLL of `full` is not finite on the training split")
        config = dataclasses.replace(self._rule.config, learning_rate=best.learning_rate, decay=best.decay)
        num_tokens = self._tokens.shape[0] * (self._tokens.shape[1] - 1)
        return TunedDynamic(
            config=config, nll=best.nll, full_nll=full.nll, trials=tuple(self._trials), num_tokens=num_tokens
        )

    def _try(self, learning_rate: float, decay: float) -> Trial:
        """Measure one pair of rate and decay."""
        config = dataclasses.replace(self._rule.config, learning_rate=learning_rate, decay=decay)
        rule: DynamicRule = dataclasses.replace(self._rule, config=config)
        try:
            scores = token_nll(self._model, self._tokens, "dynamic", bos=self._bos, dynamic=rule, progress=self._tick)
            nll = float(scores.mean(dtype=np.float64))
        # the weights diverged: the rate is too large
        except NumericalError:
            nll = math.inf
        trial = Trial(learning_rate=learning_rate, decay=decay, nll=nll if math.isfinite(nll) else None)
        self._trials.append(trial)
        return trial

    def _tick(self, share: float) -> None:
        if self._progress is not None:
            most = 3 + len(_DECADES[self._rule.config.optimizer]) + len(_DECAYS)
            self._progress((len(self._trials) + share) / most)

    def _best(self) -> Trial:
        """Return the trial with the smallest NLL, the first of tied ones."""
        return min(self._trials, key=lambda trial: math.inf if trial.nll is None else trial.nll)

    def _is_better(self, trial: Trial) -> bool:
        """Return whether a trial is the best so far."""
        return self._best() is trial
