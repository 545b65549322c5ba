"""Means over seeds and effects of values, against figures worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tests.sweep.made_runs import write_run
from tttkit.analyze.trend import geometric_mean
from tttkit.run.pruned_file import Pruned, write_pruned
from tttkit.sweep.results import Row, effects, mean_objective, rank_correlation, read_rows, trends
from tttkit.sweep.search import search_of
from tttkit.sweep.study import Range, Study
from tttkit.sweep.trials import trials_of


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


@pytest.mark.parametrize(("goal", "order"), [("minimize", [16, 32, 48, 64]), ("maximize", [32, 16, 48, 64])])
def test_the_best_setting_comes_first_and_one_without_a_mean_last(tmp_path, goal, order):
    study = Study(vary={"train.window": [64, 48, 32, 16]}, goal=goal, prune="median", seeds=[1, 2])
    search = search_of(study, tmp_path)
    pruned, _, large, small = (trials_of(study, tmp_path, setting) for setting in search.settings())
    for trials, objective in ((large, 3.0), (small, 2.0)):
        for trial in trials:
            write_run(trial, "finished", objective)
    write_run(pruned[0], "preempted")
    write_pruned(pruned[0].run, Pruned(step=3, key="selection_ppl", objective=9, best=9, median=1, others=4))
    rows = read_rows(study, tmp_path, search)
    shown = [row.setting["train.window"] for row in rows]
    assert shown[:2] == order[:2]
    assert sorted(shown[2:]) == order[2:]
    last = next(row for row in rows if row.setting["train.window"] == 64)
    assert (last.mean, last.states, last.summary) == (
        None, ["pruned", "not started"], "1 not started, 1 pruned at step 3 with 9.00",
    )  # fmt: skip
    write_run(pruned[1], "finished", 0.5)
    (last,) = [row for row in read_rows(study, tmp_path, search) if row.is_pruned]
    assert (last.mean, last.objectives) == (None, [None, 0.5]), "the seeds that were not pruned are the better ones"
    assert rows[0].mean == pytest.approx(2.0 if goal == "minimize" else 3.0)
    assert rows[0].interval is not None


def test_a_trend_needs_six_settings_and_has_the_interval_of_fisher():
    study = Study(vary={"optimizer.learning_rate": Range(low=0.0, high=1.0)}, search="random")
    values = [(0.1, 1.0), (0.2, 2.0), (0.3, 3.0), (0.4, 5.0), (0.5, 4.0), (0.6, 6.0)]
    rows = [
        dataclasses.replace(row(16, "sw"), setting={"optimizer.learning_rate": rate}, mean=mean)
        for rate, mean in values
    ]
    (trend,) = trends(study, rows)
    # one pair of neighbours is exchanged: 1 - 6 * 2 / (6 * 35); reach 1.96 * 1.03 / sqrt(3)
    assert trend.correlation == pytest.approx(1 - 12 / 210)
    middle, reach = math.atanh(trend.correlation), 1.96 * 1.03 / math.sqrt(3)
    assert trend.interval == pytest.approx((math.tanh(middle - reach), math.tanh(middle + reach)))
    assert trends(study, rows[:5]) == []
