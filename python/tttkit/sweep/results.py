"""The results of a study: a row per setting over its seeds, and the effect of each varied value."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze.trend import geometric_mean
from tttkit.run.pruned_file import Pruned, read_pruned
from tttkit.run.saved import ENDED, PRUNED
from tttkit.sweep.search import Search
from tttkit.sweep.study import Range, Setting, Study
from tttkit.sweep.trials import WAITING, Trial, trials_of

_FEWEST_FOR_TREND = 6
"""Fewer settings say nothing about a trend."""
_SPEARMAN_ERROR = 1.03
"""Standard error of the transformed rank correlation, times the root of n - 3 (Fieller, Hartley and Pearson 1957)."""
_MOST_CORRELATION = 0.9999


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A setting and its objective over seeds."""

    setting: dict[str, Any]
    runs: list[str]
    """Run directories, one for each seed."""
    states: list[str]
    """States of the runs, as in `tttkit status`; `waiting` before a run has started, `not started` if none will be."""
    objectives: list[float | None]
    """The objective of each run that has ended, else None."""
    mean: float | None
    """Geometric mean over the runs that have ended; None if a run was pruned."""
    interval: tuple[float, float] | None
    """95 % interval of the mean by Student's t over seeds; None for fewer than two seeds."""
    pruned: list[Pruned | None] = dataclasses.field(default_factory=list)
    """Why each run was pruned; None for the others."""

    @property
    def is_pruned(self) -> bool:
        """Whether the setting is trained no further. Its other runs then count in no mean and in no effect."""
        return PRUNED in self.states

    @property
    def summary(self) -> str:
        """The states of the runs in words."""
        counts = Counter(self.states)
        for pruned in filter(None, self.pruned):
            counts[PRUNED] -= 1
            counts[f"pruned at step {pruned.step} with {pruned.objective:,.2f}"] += 1
        counts = +counts
        return ", ".join(f"{count} {state}" for state, count in counts.items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effect:
    """What one value of a factor does to the objective, compared with the first value of that factor."""

    factor: str
    value: Any
    reference: Any
    ratio: float
    """Geometric mean of objective / objective with the reference, everything else equal."""
    interval: tuple[float, float] | None
    """95 % interval by Student's t over the pairs of runs."""
    pairs: int

    @property
    def label(self) -> str:
        """The value and what it is compared with, in words."""
        return f"{self.factor} = {shown(self.value)} against {shown(self.reference)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """How the objective changes with a factor that was chosen from a range, whatever the other factors are."""

    factor: str
    correlation: float
    """Spearman's rank correlation of the value with the objective; above 0 larger values have larger objectives."""
    interval: tuple[float, float]
    """95 % interval by Fisher's transformation."""
    settings: int


def read_rows(study: Study, directory: Path, search: Search) -> list[Row]:
    """Return the rows of all settings that were chosen so far, the best mean first; settings without a mean last."""
    rows = [_row(setting, trials_of(study, directory, setting)) for setting in search.settings()]
    sign = 1 if study.goal == "minimize" else -1
    return sorted(rows, key=lambda row: (row.mean is None, sign * (row.mean or 0.0)))


def _row(setting: Setting, trials: list[Trial]) -> Row:
    states = [trial.state for trial in trials]
    pairs = list(zip(trials, states, strict=True))
    pruned = [read_pruned(trial.run) if state == PRUNED else None for trial, state in pairs]
    objectives = [trial.objective if state in ENDED else None for trial, state in pairs]
    mean, interval = geometric_mean(objectives)
    if PRUNED in states:
        # the seeds that were not pruned are the better ones, so their mean would flatter the setting
        mean = interval = None
        states = ["not started" if state == WAITING else state for state in states]
    return Row(
        setting=setting.values, runs=[str(trial.run.path) for trial in trials], states=states, objectives=objectives,
        mean=mean, interval=interval, pruned=pruned,
    )  # fmt: skip


def shown(value: Any) -> str:
    """Return a value of a factor as text: numbers with four digits, other values as in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mean_objective(objectives: list[float | None]) -> float | None:
    """Return the geometric mean of a setting's objectives; None if any of them is missing."""
    return None if None in objectives else geometric_mean(objectives)[0]


def effects(study: Study, rows: list[Row]) -> list[Effect]:
    """Return the effect of every listed value, over pairs of runs with the same seed that differ in nothing else."""
    found = []
    for factor, choices in study.vary.items():
        if not isinstance(choices, list):
            continue
        reference = choices[0]
        for value in choices[1:]:
            ratios = [
                theirs / ours
                for row in rows
                if row.setting[factor] == value and not row.is_pruned
                for theirs, ours in zip(row.objectives, _counterpart(rows, row, factor, reference), strict=True)
                if theirs and ours
            ]
            ratio, interval = geometric_mean([*ratios])
            if ratio is not None:
                found.append(
                    Effect(
                        factor=factor, value=value, reference=reference, ratio=ratio, interval=interval,
                        pairs=len(ratios),
                    )
                )  # fmt: skip
    return found


def trends(study: Study, rows: list[Row]) -> list[Trend]:
    """Return the trend of every factor that was chosen from a range, over the settings with a mean."""
    known = [row for row in rows if row.mean is not None]
    if len(known) < _FEWEST_FOR_TREND:
        return []
    found = []
    for factor, choices in study.vary.items():
        values = [row.setting[factor] for row in known]
        if isinstance(choices, Range) and len(set(values)) > 1:
            correlation = rank_correlation(values, [row.mean for row in known])
            reach = 1.96 * _SPEARMAN_ERROR / math.sqrt(len(known) - 3)
            middle = math.atanh(min(max(correlation, -_MOST_CORRELATION), _MOST_CORRELATION))
            interval = (math.tanh(middle - reach), math.tanh(middle + reach))
            found.append(Trend(factor=factor, correlation=correlation, interval=interval, settings=len(known)))
    return found


def rank_correlation(first: Sequence[float], second: Sequence[float | None]) -> float:
    """Return Spearman's rank correlation; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Sequence[float | None]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return np.asarray([(array < value).sum() + ((array == value).sum() - 1) / 2 for value in array])


def _counterpart(rows: list[Row], row: Row, factor: str, reference: Any) -> list[float | None]:
    """Return the objectives of the setting that differs from `row` in `factor` only."""
    wanted = Setting({**row.setting, factor: reference})
    for other in rows:
        if other.setting == wanted.values and not other.is_pruned:
            return other.objectives
    return [None] * len(row.objectives)
