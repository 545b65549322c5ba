"""How the settings of a study are chosen: all of a grid, at random, or by Optuna's TPE from the results so far.

Settings of `grid` and `random` are functions of their number, so nothing about them has to be stored. `tpe` keeps its
trials in Optuna's journal in the directory of the study, which several drivers may use at once.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tttkit.errors import UsageError
from tttkit.sweep.study import Range, Setting, Study

JOURNAL = "optuna.journal"


class Search(Protocol):
    """Chooses settings."""

    def settings(self) -> list[Setting]:
        """Return the settings that were chosen so far, in order."""
        ...

    def propose(self) -> Setting | None:
        """Choose one more setting; None if the study has all that it asked for."""
        ...

    def tell(self, setting: Setting, objective: float | None, *, is_pruned: bool = False) -> None:
        """Report the mean objective of a setting whose seeds are all done; None if a run failed."""
        ...


def search_of(study: Study, directory: Path) -> Search:
    """Return the search that a study asks for. Raises UsageError if it needs a package that is not installed."""
    if study.search == "tpe":
        return TpeSearch(study, directory)
    if study.search == "random":
        return FixedSearch([random_setting(study, number) for number in range(study.trials)])
    lists = [choices for choices in study.vary.values() if isinstance(choices, list)]
    return FixedSearch([Setting(dict(zip(study.vary, values, strict=True))) for values in itertools.product(*lists)])


class FixedSearch:
    """Settings that are known from the start."""

    def __init__(self, settings: list[Setting]) -> None:
        self._settings = settings

    def settings(self) -> list[Setting]:
        """Return all settings."""
        return self._settings

    def propose(self) -> Setting | None:
        """Return None: there is no further setting."""
        return None

    def tell(self, setting: Setting, objective: float | None, *, is_pruned: bool = False) -> None:
        """Ignore results: they change nothing."""


def random_setting(study: Study, number: int) -> Setting:
    """Return setting `number` of a random search: a function of the number, the key and the choices alone."""
    values = {}
    for index, (key, choices) in enumerate(study.vary.items()):
        share = float(np.random.default_rng([number, index]).random())
        if isinstance(choices, Range):
            values[key] = _within(choices, share)
        else:
            values[key] = choices[int(share * len(choices))]
    return Setting(values)


def _within(choices: Range, share: float) -> float | int:
    """Return the value at a share of a range, with four significant digits, which a table can show whole."""
    low, high = choices.low, choices.high
    value = low * (high / low) ** share if choices.log else low + (high - low) * share
    if choices.whole:
        return min(max(round(value), math.ceil(low)), math.floor(high))
    return min(max(float(f"{value:.4g}"), low), high)


class TpeSearch:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011), with a journal on disk."""

    def __init__(self, study: Study, directory: Path) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise UsageError('search = "tpe" needs Optuna', hint="pip install 'tttkit[sweep]'") from error
        directory.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._study = optuna, study
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(directory / JOURNAL)))
        self._trials = optuna.create_study(
            storage=storage,
            # another base, range or fixed value is another problem, whose results say nothing here
            study_name=Setting({key: str(choices) for key, choices in study.vary.items()}).digest(study),
            direction=study.goal,
            sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True),
            load_if_exists=True,
        )

    def settings(self) -> list[Setting]:
        """Return the settings of all trials in the journal, except one whose driver was killed while choosing."""
        return [setting for _, setting in self._numbered()]

    def propose(self) -> Setting | None:
        """Ask for one more setting."""
        if len(self._numbered()) >= self._study.trials:
            return None
        trial = self._trials.ask()
        return Setting({key: self._suggest(trial, key, choices) for key, choices in self._study.vary.items()})

    def tell(self, setting: Setting, objective: float | None, *, is_pruned: bool = False) -> None:
        """Complete the trial of a setting."""
        for number, each in self._numbered():
            if each == setting:
                states = self._optuna.trial.TrialState
                # TPE takes a pruned trial for a bad one, and knows nothing of a failed one
                state = states.PRUNED if is_pruned else None if objective is not None else states.FAIL
                self._trials.tell(number, None if is_pruned else objective, state=state, skip_if_finished=True)

    def _numbered(self) -> list[tuple[int, Setting]]:
        keys = self._study.vary
        trials = (trial for trial in self._trials.get_trials(deepcopy=False) if trial.params.keys() == keys.keys())
        return [(trial.number, Setting({key: self._value(key, trial.params[key]) for key in keys})) for trial in trials]

    def _suggest(self, trial: Any, key: str, choices: list[Any] | Range) -> Any:
        if isinstance(choices, list):
            # Optuna's choices are plain values; a list of values may hold lists
            return self._value(key, trial.suggest_categorical(key, list(range(len(choices)))))
        if choices.whole:
            return trial.suggest_int(key, math.ceil(choices.low), math.floor(choices.high), log=choices.log)
        return trial.suggest_float(key, choices.low, choices.high, log=choices.log)

    def _value(self, key: str, stored: Any) -> Any:
        choices = self._study.vary[key]
        return choices[stored] if isinstance(choices, list) else stored
