"""Longer runs: a `wsd` run that is extended equals one that was planned so, bit for bit."""

from __future__ import annotations

import pytest

from tests.train.resume.test_changes import LONGER, check, stop
from tests.training import train
from tttkit.errors import CheckpointError, UsageError
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits


@pytest.fixture
def wsd_values(tiny_values):
    """Values of a `wsd` run with 2 steps of warm-up and a decay over the last quarter."""

    def build(max_steps, **optimizer):
        return tiny_values(
            optimizer={"schedule": "wsd", "warmup_ratio": 0.17, "decay_ratio": 0.25, **optimizer},
            train={"max_steps": max_steps, "save_every": 2},
        )

    return build


def weights(run):
    return (run.path / "final_model" / "model.safetensors").read_bytes()


def losses(run):
    return [(item["step"], item["loss"], item["lr"]) for item in run.read_metrics()]


def test_the_training_checkpoint_of_the_end_of_the_stable_part_is_kept(wsd_values, tmp_path):
    run = train(wsd_values(12), tmp_path / "run").run
    assert [step for step, _ in training_checkpoints(run)] == [12, 10, 9]


@pytest.mark.parametrize("stopped_at", [None, 5, 11])
def test_an_extended_run_equals_a_planned_one(wsd_values, tmp_path, stopped_at):
    planned = train(wsd_values(20, warmup_steps=2), tmp_path / "planned").run
    if stopped_at is None:
        run = train(wsd_values(12), tmp_path / "run").run
    else:
        run = stop(wsd_values(12), tmp_path / "run", stopped_at, killed=True)
    events = []
    train(wsd_values(20), run.path, allow_change=LONGER, report=events.append)
    assert weights(run) == weights(planned)
    assert losses(run) == losses(planned)
    check(run)
    assert run.read_metadata()["config"]["optimizer"]["warmup_steps"] == 2
    if stopped_at is None:
        (resumed,) = [event for event in events if event["event"] == "resumed"]
        assert resumed["step"] == 9
        assert (run.states / "step_12.superseded-0").is_dir()
    assert train(wsd_values(20), run.path).already_ended, "the same command finds the run finished"


def test_an_extension_that_is_killed_goes_on_with_the_same_bits(wsd_values, tmp_path):
    planned = train(wsd_values(20, warmup_steps=2), tmp_path / "planned").run
    run = train(wsd_values(12), tmp_path / "run").run
    stop(wsd_values(20), run.path, 10, killed=True, allow_change=LONGER)
    train(wsd_values(20), run.path)
    assert weights(run) == weights(planned)


def test_a_run_is_extended_twice(wsd_values, tmp_path):
    planned = train(wsd_values(24, warmup_steps=2), tmp_path / "planned").run
    run = train(wsd_values(12), tmp_path / "run").run
    for steps in (16, 24):
        train(wsd_values(steps), run.path, allow_change=LONGER)
    assert weights(run) == weights(planned)


def test_without_a_training_checkpoint_of_the_stable_part_nothing_changes(wsd_values, tmp_path):
    run = train(wsd_values(12), tmp_path / "run").run
    commits.remove_directory(run.states / "step_9")
    with pytest.raises(CheckpointError, match="up to step 9") as error:
        train(wsd_values(20), run.path, allow_change=LONGER)
    assert "10, 12" in error.value.hint


def test_shares_above_one_are_refused(wsd_values, tmp_path):
    with pytest.raises(UsageError, match="must sum to at most 1"):
        train(wsd_values(12, decay_ratio=0.9), tmp_path / "run")
