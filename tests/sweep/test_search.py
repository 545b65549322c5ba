"""Searches choose from what the study varies, and go on where they were."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttkit.sweep.search import _within, random_setting, search_of
from tttkit.sweep.study import Range, Study


def test_a_grid_has_every_combination_once(tmp_path):
    study = Study(vary={"train.window": [16, 32], "model": ["ttt-linear", "sw", "lact"]})
    search = search_of(study, tmp_path)
    found = [(setting.values["train.window"], setting.values["model"]) for setting in search.settings()]
    assert sorted(found) == sorted((window, model) for window in (16, 32) for model in ("ttt-linear", "sw", "lact"))
    assert search.propose() is None


def test_without_varied_values_only_the_seeds_differ(tmp_path):
    assert [setting.values for setting in search_of(Study(seeds=[1, 2]), tmp_path).settings()] == [{}]


@given(
    number=st.integers(0, 9_999),
    low=st.floats(1e-6, 1e6),
    factor=st.floats(1.001, 1e6),
    log=st.booleans(),
    whole=st.booleans(),
)
def test_random_settings_stay_in_their_range(number, low, factor, log, whole):
    high = low * factor
    if whole:
        low, high = float(round(low) + 1), float(round(high) + 2)
    study = Study(search="random", vary={"x": Range(low=low, high=high, log=log, whole=whole), "y": ["a", "b"]})
    setting = random_setting(study, number)
    assert low <= setting.values["x"] <= high
    assert setting.values["y"] in ("a", "b")
    assert not whole or isinstance(setting.values["x"], int)
    assert setting == random_setting(study, number)


def test_random_settings_cover_a_logarithmic_range_evenly():
    study = Study(search="random", vary={"x": Range(low=1e-4, high=1.0, log=True)})
    values = [random_setting(study, number).values["x"] for number in range(400)]
    decades = [sum(10.0**-k <= value < 10.0 ** (1 - k) for value in values) for k in (1, 2, 3, 4)]
    assert all(70 <= count <= 130 for count in decades), decades


def test_the_ends_of_a_range_hold_when_a_value_is_rounded():
    assert _within(Range(low=1.23449, high=9.0), 0.0) == 1.23449
    assert _within(Range(low=1.0, high=3.7, whole=True), 0.999) == 3
    assert _within(Range(low=1.3, high=3.7, whole=True), 0.0) == 2


def test_random_settings_choose_every_value_and_each_key_for_itself():
    study = Study(search="random", vary={"x": ["a", "b", "c"], "y": ["a", "b", "c"]})
    pairs = {tuple(random_setting(study, number).values.values()) for number in range(200)}
    assert len(pairs) == 9


def _seeded(sampler, seeds, **options):
    return sampler(**options, seed=next(seeds))


def test_tpe_goes_on_from_its_journal_and_finds_better_settings(tmp_path, monkeypatch):
    samplers = pytest.importorskip("optuna").samplers
    seeds = itertools.count()  # the same draws in each run of the test, and others for each driver
    monkeypatch.setattr(samplers, "TPESampler", partial(_seeded, samplers.TPESampler, seeds))

    def objective(setting):
        return (setting.values["x"] - 0.5) ** 2 + setting.values["y"][0] + 0.1

    study = Study(search="tpe", trials=30, vary={"x": Range(low=-1.0, high=1.0), "y": [[1], [2], [3]]})
    for _ in range(30):
        search = search_of(study, tmp_path)  # a driver that was killed and started again
        setting = search.propose()
        assert setting is not None
        assert setting in search.settings()
        search.tell(setting, objective(setting))
    search = search_of(study, tmp_path)
    assert search.propose() is None
    assert len(search.settings()) == 30
    results = [objective(setting) for setting in search.settings()]
    assert np.mean(results[10:]) < 0.85 * np.mean(results[:10]), "the first ten are random"
    # another fixed value is another problem
    assert search_of(Study(**{**study.__dict__, "fixed": {"train.max_steps": 3}}), tmp_path).settings() == []


def test_tpe_takes_a_pruned_setting_for_a_bad_one_and_does_not_choose_it_again(tmp_path):
    state = pytest.importorskip("optuna").trial.TrialState
    study = Study(search="tpe", trials=1, vary={"x": [1, 2]})
    search = search_of(study, tmp_path)
    search.tell(search.propose(), None, is_pruned=True)
    assert [trial.state for trial in search._trials.get_trials()] == [state.PRUNED]
    assert search_of(study, tmp_path).propose() is None


def test_a_result_completes_the_trial_of_its_setting_alone(tmp_path):
    pytest.importorskip("optuna")
    search = search_of(Study(search="tpe", trials=3, vary={"x": Range(low=-1.0, high=1.0)}), tmp_path)
    _, second = search.propose(), search.propose()
    search.tell(second, 0.5)
    assert [trial.state.name for trial in search._trials.trials] == ["RUNNING", "COMPLETE"]
