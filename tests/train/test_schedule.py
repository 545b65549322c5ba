from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tttkit.config.run import OptimizerConfig
from tttkit.train.schedule import default_save_every, evaluation_steps, learning_rate


def test_evaluations_of_the_reference_run():
    steps = evaluation_steps(100_000, 50)
    assert steps[:4] == [0, 2041, 4082, 6122]
    assert (len(steps), steps[-1]) == (50, 100_000)


def test_few_checkpoints():
    assert evaluation_steps(100, 0) == []
    assert evaluation_steps(100, 1) == [100]
    assert evaluation_steps(100, 2) == [0, 100]
    assert evaluation_steps(3, 50) == [0, 1, 2, 3]
    assert evaluation_steps(0, 50) == [0]


@given(st.integers(0, 10**6), st.integers(2, 600))
def test_evaluations_are_the_rounded_even_spread(max_steps, num_checkpoints):
    steps = evaluation_steps(max_steps, num_checkpoints)
    exact = {math.floor(i * max_steps / (num_checkpoints - 1) + 0.5) for i in range(num_checkpoints)}
    assert steps == sorted(exact)


def test_learning_rate_warms_up_and_falls_to_its_floor():
    config = OptimizerConfig(learning_rate=1.0, warmup_ratio=0.1, min_lr_ratio=0.1)
    rates = [learning_rate(step, config, max_steps=100) for step in range(1, 101)]
    assert rates[:10] == [step / 10 for step in range(1, 11)]
    assert all(later < earlier for earlier, later in pairwise(rates[9:]))
    assert math.isclose(rates[-1], 0.1)
    assert math.isclose(rates[54], 0.1 + 0.9 * 0.5)


def test_no_warm_up_starts_below_the_peak_only_by_the_cosine():
    config = OptimizerConfig(learning_rate=1.0, warmup_ratio=0.0, min_lr_ratio=0.0)
    assert learning_rate(1, config, max_steps=1000) > 0.99999
    assert learning_rate(1, OptimizerConfig(learning_rate=1.0, warmup_ratio=1.0), max_steps=1) == 1.0


def test_checkpoints_are_saved_a_hundred_times_but_at_least_50_steps_apart():
    assert [default_save_every(n) for n in (1, 5_000, 100_000)] == [50, 50, 1000]
