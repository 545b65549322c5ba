from __future__ import annotations

import math

import pytest

from tttkit.config.run import EarlyStoppingConfig
from tttkit.train.early_stopping import EarlyStopping


def _run(values, **config):
    stopping = EarlyStopping(EarlyStoppingConfig(**config), max_steps=100)
    for index, value in enumerate(values):
        stopping.update(value, checkpoint=index)
        if stopping.should_stop((index + 1) * 10):
            return stopping, index
    return stopping, None


def test_stops_after_patience_without_enough_improvement():
    _, stopped = _run([100, 90, 89.9, 89.8, 89.7, 50], patience=3, min_delta="0.5%", min_steps_ratio=0)
    assert stopped == 4


def test_absolute_delta_ends_a_healthy_run_and_relative_does_not():
    falling = [90 * 0.9**index for index in range(8)]
    assert _run(falling, patience=2, min_delta="50", min_steps_ratio=0)[1] == 2
    assert _run(falling, patience=2, min_delta="0.5%", min_steps_ratio=0)[1] is None


def test_never_before_min_steps_and_never_when_switched_off():
    assert _run([1, 2, 2, 2, 2, 2], patience=1, min_steps_ratio=0.5)[1] == 4
    assert _run([1, 2, 2, 2, 2, 2], patience=1, enabled=False, min_steps_ratio=0)[1] is None


def test_best_counts_any_improvement_and_ignores_what_is_not_finite():
    stopping, _ = _run([100, 99.9, math.nan, math.inf], patience=9)
    assert (stopping.best, stopping.best_checkpoint, stopping.reference) == (99.9, 1, 100)
    assert stopping.num_waiting == 3


@pytest.mark.parametrize("values", [[], [5.0, 6.0], [math.nan]])
def test_state_round_trips(values):
    stopping, _ = _run(values, patience=9)
    other = EarlyStopping(stopping.config, max_steps=100)
    other.load(stopping.to_dict())
    assert other == stopping
