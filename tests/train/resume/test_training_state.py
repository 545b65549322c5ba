from __future__ import annotations

import pytest
import torch

from tttkit.config.run import build_config
from tttkit.data import open_split
from tttkit.errors import CheckpointError
from tttkit.models import build_model
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import newest_saved_step
from tttkit.storage import files
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.optim import build_optimizer
from tttkit.train.resume.training_state import TrainingState
from tttkit.train.update import Updater


@pytest.fixture
def build(tiny_data, tiny_values, tmp_path):
    """A function that builds model, early stopping and state of the same run, with weights of a seed."""

    def build(seed: int, *, run_id: str = "ours", **train):
        config = build_config(tiny_values(model={"vocab_size": 300}, train=train))
        model = build_model(config.model, seed=seed)
        optimizer = build_optimizer(model, config.optimizer)
        split = open_split(tiny_data, "train")
        updater = Updater(model, optimizer, split, config, torch.device("cpu"), auto_microbatch=False)
        stopping = EarlyStopping(config.early_stopping, config.train.max_steps)
        state = TrainingState(RunDirectory(tmp_path), run_id, model, optimizer, updater, stopping)
        return state, model, updater, stopping

    return build


def train_steps(state, updater, count: int) -> None:
    for _ in range(count):
        state.progress.advance(4 * 16)
        for each in updater.run(state.progress.step, 1e-2, lambda: None):
            state.progress.count(each.step, each.loss, applied=each.applied)


@pytest.mark.parametrize("initial_state", ["zero", "contiguous"])
def test_a_restored_run_continues_with_the_same_bits(build, initial_state):
    state, model, updater, stopping = build(0, initial_state=initial_state)
    train_steps(state, updater, 3)
    stopping.update(7.0, checkpoint=0)
    state.write()
    other, other_model, other_updater, other_stopping = build(1, initial_state=initial_state)
    other.restore(other.load_newest())
    assert (other.progress, other_stopping.best) == (state.progress, 7.0)
    for each, its_updater in ((state, updater), (other, other_updater)):
        train_steps(each, its_updater, 2)
    assert other.progress.loss_sum.hex() == state.progress.loss_sum.hex()
    for left, right in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_what_must_be_saved_again(build, tmp_path):
    """A step, an evaluation at the same step, a rollback, and a run that was never saved."""
    state, _, updater, _ = build(0)
    assert (state.is_first, state.is_saved) == (True, False)
    state.write()
    assert (state.is_first, state.is_saved, newest_saved_step(RunDirectory(tmp_path))) == (False, True, 0)
    state.progress.evaluated.append(0)
    assert not state.is_saved
    state.write()
    state.progress.num_rollbacks += 1
    assert not state.is_saved
    train_steps(state, updater, 1)
    assert not state.is_saved
    assert not build(1)[0].is_first, "an earlier process saved"


def test_non_finite_numbers_are_detected_everywhere(build):
    for spoil in ("weights", "moments", "rows"):
        state, model, updater, _ = build(0, initial_state="contiguous")
        train_steps(state, updater, 2)
        assert state.is_finite
        if spoil == "weights":
            next(model.parameters()).data.view(-1)[0] = float("nan")
        elif spoil == "moments":
            next(iter(state._optimizer.state.values()))["exp_avg"].view(-1)[0] = float("inf")
        else:
            tensors = updater.feed.tensors()
            name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
            tensors[name].view(-1)[0] = float("nan")
            updater.feed.tensors = lambda tensors=tensors: tensors
        assert not state.is_finite, spoil


def test_a_checkpoint_of_another_run_is_set_aside(build, tmp_path):
    build(0, run_id="theirs")[0].write()
    with pytest.raises(CheckpointError, match="of another run, theirs"):
        build(0)[0].load_newest()
    assert [path.name for path in RunDirectory(tmp_path).states.iterdir()] == ["step_0.corrupt-0"]


def test_the_checkpoint_has_its_schema_and_the_id_of_the_run(build, tmp_path):
    build(0)[0].write()
    values = files.read_json(RunDirectory(tmp_path).states / "step_0" / "state.json")
    assert (values["schema_version"], values["run_id"], values["step"]) == (3, "ours", 0)
