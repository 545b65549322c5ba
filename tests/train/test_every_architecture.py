"""Everything that the program does with a model works for every architecture of the registry."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tests.models.small import ARCHITECTURES
from tests.training import train
from tttkit.config.run import build_config
from tttkit.errors import UsageError
from tttkit.evaluate.memory import batch_tokens
from tttkit.models import build_model, load_model
from tttkit.models.convert import convert_model, official_obstacle
from tttkit.models.digest import weights_sha256
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory
from tttkit.train.benchmark import measure_training
from tttkit.train.optim import build_optimizer

all_architectures = pytest.mark.parametrize("fields", ARCHITECTURES.values(), ids=ARCHITECTURES)


class KilledError(Exception):
    """Simulates a kill."""


@pytest.fixture
def values_of(tiny_values):
    """Values of a short run that reads contiguous windows, if the model has a state, and records diagnostics."""

    def build(fields):
        values = tiny_values(
            model={"num_hidden_layers": 2, "sliding_window": 6, **fields},
            train={"max_steps": 6, "save_every": 2, "inner_loss_every": 2},
            evaluation={"num_checkpoints": 2},
        )
        if build_config(values).model.has_state:
            values["train"].update(initial_state="contiguous", initial_state_reset=0.3)
        return values

    return build


@all_architectures
def test_a_run_is_evaluated_and_resumes_with_the_same_bits(values_of, fields, tmp_path):
    values = values_of(fields)
    train(values, tmp_path / "whole")

    def kill(event):
        if event["event"] == "step" and event["step"] == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(values, tmp_path / "run", report=kill)
    train(values, tmp_path / "run")
    runs = [RunDirectory(tmp_path / name) for name in ("whole", "run")]
    digests = {weights_sha256(load_model(run.path / "final_model")) for run in runs}
    assert len(digests) == 1
    losses = [[record["loss"] for record in run.read_metrics() if "loss" in record] for run in runs]
    assert losses[0] == losses[1]
    assert all(math.isfinite(loss) for loss in losses[0])
    assert losses[0][-1] < losses[0][0]
    summary = Summary.read(sorted(runs[0].path.glob("checkpoint_*/summary.json"))[-1])
    assert summary.contexts() == ["full", "sw", "sw_aligned", "reset"]
    model = load_model(runs[0].path / "final_model")
    reported = {name for record in runs[0].read_metrics() for name in record}
    expected = any(block.seq_modeling_block.has_diagnostics for block in model.model.layers)
    assert bool(reported & {"inner_loss_before", "memory_norm"}) == expected


@all_architectures
def test_a_model_directory_is_read_back_and_the_official_format_refuses_others(fields, tmp_path):
    from tests.models.small import random_ids, small_model
    from tttkit.models import save_model

    model = small_model(**fields)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert torch.equal(again(random_ids(1, 9)), model(random_ids(1, 9)))
    if official_obstacle(model.config) is None:
        assert convert_model(tmp_path / "model", tmp_path / "official").target == "official"
    else:
        with pytest.raises(UsageError, match=re.escape(official_obstacle(model.config))):
            convert_model(tmp_path / "model", tmp_path / "official")


@all_architectures
def test_speed_memory_and_weight_decay_follow_from_the_declarations(values_of, fields):
    config = build_config(values_of({**fields, "vocab_size": 61}))
    speed = measure_training(
        config.model,
        batch_size=2,
        window=16,
        rounds=1,
        device=torch.device("cpu"),
        compile_blocks=False,
        precision="fp32",
    )
    assert speed.mfu > 0
    assert speed.flop_per_step == 32 * build_model(config.model, seed=0).flops_per_token(16)
    model = build_model(config.model, seed=0)
    assert batch_tokens(model.bytes_per_token(), torch.device("cpu")) >= 1
    decayed, rest = build_optimizer(model, config.optimizer).param_groups
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(rest["params"]) == len(list(model.parameters()))
