"""Means over seeds and effects of values, against figures worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tttkit.analyze.trend import geometric_mean
from tttkit.sweep.results import Row, effects, mean_objective, rank_correlation
from tttkit.sweep.study import Study


def row(window: int, model: str, *objectives: float | None) -> Row:
    return Row(
        setting={"train.window": window, "model": model}, runs=[], states=[], objectives=list(objectives), mean=None,
        interval=None,
    )  # fmt: skip


def test_the_mean_is_geometric_with_the_interval_of_students_t():
    mean, interval = geometric_mean([2.0, 8.0, None])
    assert mean == pytest.approx(4.0)
    # two values: t = 12.706 with one degree of freedom, standard error log(2)
    assert interval == pytest.approx((4 * 2**-12.706, 4 * 2**12.706), rel=1e-3)
    assert geometric_mean([3.0])[1] is None
    assert geometric_mean([None]) == (None, None)


def test_a_setting_counts_only_with_all_seeds():
    assert mean_objective([2.0, 8.0]) == pytest.approx(4.0)
    assert mean_objective([2.0, None]) is None


def test_an_effect_compares_runs_that_differ_in_nothing_else():
    study = Study(vary={"train.window": [16, 32], "model": ["ttt-linear", "sw"]})
    rows = [
        row(16, "ttt-linear", 10.0, 20.0),
        row(16, "sw", 5.0, 10.0),
        row(32, "ttt-linear", 30.0, None),
        row(32, "sw", 15.0, 30.0),
    ]
    by_factor = {effect.factor: effect for effect in effects(study, rows)}
    assert by_factor["model"].ratio == pytest.approx(0.5)
    assert by_factor["model"].pairs == 3
    assert by_factor["train.window"].ratio == pytest.approx(3.0)
    low, high = by_factor["train.window"].interval
    assert math.isclose(low, high)  # every pair has the same ratio


def test_a_setting_with_a_pruned_run_counts_in_no_effect():
    study = Study(vary={"train.window": [16, 32]})
    for pruned in (0, 1):
        rows = [row(16, "sw", 10.0, 20.0), row(32, "sw", 30.0, 60.0)]
        assert effects(study, rows)[0].pairs == 2
        rows[pruned] = dataclasses.replace(rows[pruned], states=["pruned", "finished"], objectives=[None, 20.0])
        assert effects(study, rows) == []


def test_the_rank_correlation_is_that_of_scipy():
    from scipy.stats import spearmanr

    first, second = [1.0, 5.0, 5.0, 2.0, 8.0, 3.0], [10.0, 3.0, 4.0, 9.0, 1.0, 9.0]
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
