from __future__ import annotations

import pytest

from tttkit.config.run import TrainConfig
from tttkit.train.logs import pace
from tttkit.train.logs.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock that the test moves."""
    now = [50.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_by_default_saves_take_two_percent_of_the_time(clock):
    subject = Pace(TrainConfig(max_steps=10_000), [])
    assert subject.save_every == 100
    assert [subject.may_save(step) for step in (0, 50, 100)] == [True, False, True]
    clock[0] += 1
    assert subject.count_save(clock[0] - 0.5) == 0.5
    due = []
    for seconds in (24.9, 0.2):
        clock[0] += seconds
        due.append(subject.may_save(200))
    assert due == [False, True], "0.5 s is 2 % of 25 s"


def test_a_given_interval_is_kept_however_long_a_save_takes(clock):
    subject = Pace(TrainConfig(max_steps=10_000, save_every=7), [])
    subject.count_save(clock[0] - 1000)
    assert [subject.may_save(step) for step in (7, 8, 14)] == [True, False, True]


def test_the_eta_adds_steps_evaluations_and_saves_to_come(clock):
    subject = Pace(TrainConfig(max_steps=100, save_every=25), [0, 50, 100])
    assert subject.eta_seconds(0) is None
    subject.steps.extend([9.0, 2.0, 2.0])
    subject.evaluations.extend([30.0, 10.0, 20.0])
    subject.count_save(clock[0] - 3)
    assert subject.eta_seconds(60) == 40 * 2.0 + 1 * 20.0 + 2 * 3.0
    assert subject.eta_seconds(100) == 0


def test_old_steps_do_not_count(clock):
    subject = Pace(TrainConfig(), [])
    subject.steps.extend([100.0] * 300 + [1.0] * 101)
    assert subject.step_seconds == 1.0
