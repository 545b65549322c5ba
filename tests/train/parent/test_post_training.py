"""Initial states as post-training: a warm start or a branch whose windows start from other states than its parent's."""

from __future__ import annotations

import pytest

from tests.train.resume.test_changes import stop
from tests.training import train
from tttkit.run.saved import training_checkpoints
from tttkit.train.resume.checkpoint import read_checkpoint

KINDS = {"passed": "passed_state.", "fitted": "state_moments.", "gaussian": "state_moments.", "contiguous": "initial_"}


@pytest.fixture
def parent(tiny_values, tmp_path):
    return train(tiny_values(), tmp_path / "parent").run


def losses(run):
    return [item["loss"] for item in run.read_metrics()]


def weights(run):
    return (run.path / "final_model" / "model.safetensors").read_bytes()


def state_names(run):
    """Return the prefixes of the states in the newest training checkpoint of a run."""
    step, path = training_checkpoints(run)[0]
    return {
        name for name in KINDS.values() for tensor in read_checkpoint(path, step).tensors if tensor.startswith(name)
    }


def test_the_first_update_of_a_branch_starts_from_zero_and_the_next_from_what_it_left(parent, tiny_values, tmp_path):
    name = f"{parent.path}@8"
    zero = train(tiny_values(), tmp_path / "zero", branch_from=name).run
    assert state_names(zero) == set()
    for kind, prefix in KINDS.items():
        values = tiny_values(train={"initial_state": kind, "save_every": 2})
        run = train(values, tmp_path / kind, branch_from=name).run
        assert state_names(run) == {prefix}
        assert run.read_metadata()["parent"]["changes"][0] == f"train.initial_state: zero -> {kind}"
        if kind != "contiguous":  # which reads other windows
            assert losses(run)[0] == losses(zero)[0]
        assert losses(run)[1] != losses(zero)[1]
        killed = stop(values, tmp_path / f"killed-{kind}", 11, killed=True, branch_from=name)
        assert training_checkpoints(killed)[0][0] == 10
        train(values, killed.path, branch_from=name)
        assert weights(killed) == weights(run)


@pytest.mark.parametrize("kind", ["passed", "fitted"])
def test_the_first_update_of_a_warm_start_starts_from_zero(parent, tiny_values, tmp_path, kind):
    values = tiny_values(train={"max_steps": 2})
    zero = train(values, tmp_path / "zero", init_from=str(parent.path)).run
    values = tiny_values(train={"max_steps": 2, "initial_state": kind})
    run = train(values, tmp_path / "run", init_from=str(parent.path)).run
    assert losses(run)[0] == losses(zero)[0]
    assert losses(run)[1] != losses(zero)[1]


@pytest.mark.parametrize("kind", ["passed", "gaussian"])
def test_a_branch_of_a_run_with_states_goes_on_with_them(tiny_values, tmp_path, kind):
    values = tiny_values(train={"initial_state": kind})
    parent = train(values, tmp_path / "parent").run
    branch = train(values, tmp_path / "branch", branch_from=f"{parent.path}@8").run
    assert losses(branch) == losses(parent)[8:]
    other = train(tiny_values(), tmp_path / "other", branch_from=f"{parent.path}@8").run
    assert losses(other)[0] != losses(branch)[0]


def test_the_share_of_a_branch_counts_the_steps_of_its_parent(parent, tiny_values, tmp_path):
    zero = train(tiny_values(), tmp_path / "zero", branch_from=f"{parent.path}@8").run
    late = tiny_values(train={"initial_state": "passed", "initial_state_from": 0.75})
    run = train(late, tmp_path / "run", branch_from=f"{parent.path}@8").run
    # update 10 is the first with states, which are still zero
    assert losses(run)[:2] == losses(zero)[:2]
    assert losses(run)[2] != losses(zero)[2]
