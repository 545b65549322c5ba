"""The median rule: which runs of a study are trained no further because others do better at the same step.

This is the median stopping rule of Golovin et al. (2017), as in Optuna's MedianPruner, with one difference: a run is
compared with all other runs of the same seed that have reached its step, and not only with those that have ended. So
it also works with the first settings of a grid.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tttkit.run.pruned_file import Pruned
from tttkit.run.saved import PRUNED
from tttkit.sweep.study import Study
from tttkit.sweep.trials import Trial

FEWEST_OTHERS = 4
"""A median of fewer runs says too little."""


class Pruning:
    """Judges runs at their evaluations; every evaluation once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._judged: dict[str, int] = {}

    def judge(self, trial: Trial, others: Iterable[Trial]) -> Pruned | None:
        """Return why `trial` is to be pruned at its newest evaluation, None if it is not.

        `others` are runs of other settings with the same seed.
        """
        if self._study.prune == "none":
            return None
        values = trial.evaluations()
        step = max(values, default=0)
        if not values or self._judged.get(trial.name) == step:
            return None
        self._judged[trial.name] = step
        if not self._study.prune_after * (last := trial.config().train.max_steps) <= step < last:
            return None
        return worse_than_median(self._study, values, [other.evaluations() for other in others])


def worse_than_median(study: Study, values: dict[int, float], others: list[dict[int, float]]) -> Pruned | None:
    """Compare a run's best objective so far with the median of others at its newest step.

    `values` and each of `others` are the objectives of a run by step.
    """
    step = max(values)
    at_step = [other[step] for other in others if step in other]
    if len(at_step) < FEWEST_OTHERS:
        return None
    sign = 1.0 if study.goal == "minimize" else -1.0
    best, median = min(values.values(), key=lambda value: sign * value), float(np.median(at_step))
    if sign * best <= sign * median:
        return None
    return Pruned(step=step, key=study.objective, objective=values[step], best=best, median=median, others=len(at_step))


def is_pruned(study: Study, trials: Iterable[Trial]) -> bool:
    """Whether a setting with these trials is trained no further, because one of them was pruned."""
    return study.prune != "none" and any(trial.state == PRUNED for trial in trials)
