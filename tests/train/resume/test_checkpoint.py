from __future__ import annotations

import numpy as np
import pytest
import torch

from tttkit.config.run import OptimizerConfig
from tttkit.errors import CheckpointError
from tttkit.models import ModelConfig, build_model
from tttkit.models.digest import weights_sha256
from tttkit.run.directory import RunDirectory
from tttkit.train.optim import build_optimizer
from tttkit.train.resume.checkpoint import load_newest_checkpoint, restore_checkpoint, save_checkpoint

TINY = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def trained():
    torch.manual_seed(1)
    model = build_model(ModelConfig(**TINY))
    optimizer = build_optimizer(model, OptimizerConfig())
    model(torch.randint(0, 61, (2, 16))).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.states.mkdir()
    return run


def _save(run, trained, *steps):
    for step in steps:
        save_checkpoint(run, step, *trained, {"note": step})


def test_a_checkpoint_restores_weights_moments_and_random_numbers_exactly(run, trained):
    model, optimizer = trained
    _save(run, trained, 7)
    expected = torch.rand(4)
    torch.manual_seed(99)
    other = build_model(ModelConfig(**TINY))
    fresh = build_optimizer(other, OptimizerConfig())
    state = load_newest_checkpoint(run)
    restore_checkpoint(state, other, fresh)
    assert (state.step, state.values["note"], state.skipped) == (7, 7, [])
    assert weights_sha256(other) == weights_sha256(model)
    assert torch.equal(torch.rand(4), expected)
    for (_, left), (_, right) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert optimizer.state[left].keys() == fresh.state[right].keys()
        for key, value in optimizer.state[left].items():
            assert torch.equal(value, fresh.state[right][key])


def test_the_newest_two_checkpoints_are_kept(run, trained):
    _save(run, trained, 5, 10, 100)
    assert sorted(entry.name for entry in run.states.iterdir()) == ["step_10", "step_100"]


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_loaded(run, trained, seed):
    _save(run, trained, 1, 2)
    random = np.random.default_rng(seed)
    victim = run.states / "step_2" / random.choice(["tensors.safetensors", "state.json", "MANIFEST.json"])
    data = bytearray(victim.read_bytes())
    kind = seed % 3
    if kind == 0:
        data[random.integers(len(data))] ^= 1 << random.integers(8)
    elif kind == 1:
        del data[random.integers(len(data)) :]
    else:
        data += b"\0"
    victim.write_bytes(data)
    state = load_newest_checkpoint(run)
    assert state.step == 1
    assert state.skipped[0].startswith("step_2.corrupt-0: ")
    assert (run.states / "step_2.corrupt-0").is_dir()


def test_without_a_valid_checkpoint_the_run_does_not_silently_restart(run, trained):
    _save(run, trained, 1)
    (run.states / "step_1" / "state.json").unlink()
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no valid training checkpoint") as error:
            load_newest_checkpoint(run)
        assert error.value.exit_code == 4


def test_a_run_that_never_saved_has_no_checkpoint(run):
    assert load_newest_checkpoint(run) is None


def test_a_checkpoint_of_another_model_is_refused(run, trained):
    _save(run, trained, 1)
    other = build_model(ModelConfig(**{**TINY, "num_hidden_layers": 2}))
    with pytest.raises(CheckpointError, match="does not have the model's parameters"):
        restore_checkpoint(load_newest_checkpoint(run), other, build_optimizer(other, OptimizerConfig()))
