"""Training on several ranks gives the numbers of one process, and stops, saves and resumes as one."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from tests.distributed.ranks import codes_of, start_ranks, train
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.storage import files

SLOW = bool(os.environ.get("TTTKIT_SLOW_TESTS"))
NUM_STEPS = 200 if SLOW else 12
FEW = [("contiguous", 4, "float64"), ("fitted", 1, "float32"), ("fsdp", 2, "float64")]
MANY = [
    (state, number, dtype)
    for state in ("zero", "contiguous", "fitted", "fsdp") for number in (1, 4) for dtype in ("float64", "float32")
]  # fmt: skip
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
"""Largest relative difference of a loss between one process and several, which add in another order. Anything but
rounding would be as large in float64."""
CALM = 1e-3
"""A learning rate at which training does not amplify rounding. At 0.01 it does, by more than 10,000 in 200 steps: in
float32 two ranks differ by 3e-4 from one process, which differs by 1e-3 if it computes other batches itself."""
SETTINGS = MANY if SLOW else FEW


def losses(path) -> list[float]:
    return [record["loss"] for record in RunDirectory(path).read_metrics()]


@pytest.fixture
def values(tiny_values):
    def build(initial_state="zero", accumulation=1, learning_rate=1e-2, **train):
        return tiny_values(
            train={
                "max_steps": NUM_STEPS, "global_batch": 16, "batch_size": 4 // accumulation,
                "grad_accumulation": accumulation, "initial_state": initial_state, "rank_timeout": 20.0, **train,
            },
            optimizer={"learning_rate": learning_rate, "schedule": "wsd", "warmup_steps": 2, "decay_ratio": 0.0},
            evaluation={"num_checkpoints": 2}, early_stopping={"enabled": False},
        )  # fmt: skip

    return build


def run(size, values, path, dtype="float32"):
    ranks = start_ranks(size, train_in, dtype, values, str(path), log=path.with_suffix(".log"))
    assert codes_of(ranks, 600) == [0] * size, path.with_suffix(".log").read_text()
    return losses(path)


def train_in(dtype, values, out):
    torch.set_default_dtype(getattr(torch, dtype))
    train(values, out)


@pytest.mark.parametrize(("initial_state", "accumulation", "dtype"), SETTINGS)
def test_every_number_of_ranks_gives_the_same_losses(values, tmp_path, initial_state, accumulation, dtype):
    rare = {"learning_rate": CALM, "save_every": NUM_STEPS}
    settings = values(initial_state, accumulation, **rare)
    if initial_state == "fsdp":
        settings = values("contiguous", accumulation, parallel="fsdp", inner_loss_every=4, **rare)
    alone = run(1, settings, tmp_path / "1", dtype)
    assert len(alone) == NUM_STEPS
    for size in (2, 4):
        several = run(size, settings, tmp_path / f"{size}", dtype)
        assert several == pytest.approx(alone, rel=TOLERANCES[dtype])
        metadata = files.read_json(tmp_path / f"{size}" / "metadata.json")
        assert (metadata["world_size"], metadata["result"]["tokens_seen"]) == (size, NUM_STEPS * 16 * 16)
    if SLOW:
        assert run(4, settings, tmp_path / "again", dtype) == losses(tmp_path / "4")


def test_a_signal_to_any_rank_stops_all_and_the_run_resumes_with_the_same_bits(values, tmp_path):
    settings = values("contiguous", max_steps=400, log_every=1, save_every=1000)
    ranks = start_ranks(2, train, settings, str(tmp_path / "run"), log=tmp_path / "log")
    stopped = RunDirectory(tmp_path / "run")
    while len(stopped.metric_lines()) < 3:
        time.sleep(0.05)
    os.kill(ranks[1].pid, signal.SIGTERM)
    assert codes_of(ranks) == [75, 75], (tmp_path / "log").read_text()
    (saved, _), first = training_checkpoints(stopped)
    assert first[0] == 0
    assert saved >= 3
    assert f"stopped by SIGTERM to rank 1 at step {saved}" in stopped.training_log.read_text()
    shorter = values("contiguous", max_steps=saved + 3)
    ranks = start_ranks(2, train_longer, shorter, str(tmp_path / "run"), log=tmp_path / "log")
    assert codes_of(ranks) == [0, 0], (tmp_path / "log").read_text()
    assert losses(tmp_path / "run") == run(2, shorter, tmp_path / "whole")


def train_longer(values, out):
    train(values, out, allow_change=frozenset({"train.max_steps", "train.save_every"}))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_resumes_on_another_number_of_ranks(values, tmp_path, parallel):
    """The windows, the moments and the contiguous rows are those of one process from the first step to the last."""
    whole = run(1, values("contiguous", learning_rate=CALM), tmp_path / "whole")
    step = NUM_STEPS // 3
    for size, end in ((2, step), (1, 2 * step), (4, NUM_STEPS)):
        settings = values("contiguous", learning_rate=CALM, max_steps=end, parallel=parallel)
        ranks = start_ranks(size, train_longer, settings, str(tmp_path / "run"), log=tmp_path / "log")
        assert codes_of(ranks) == [0] * size, (tmp_path / "log").read_text()
        (_, newest), *_ = training_checkpoints(RunDirectory(tmp_path / "run"))
        assert len(list(newest.glob("shard-*"))) == (size if parallel == "fsdp" and size > 1 else 0)
    assert losses(tmp_path / "run") == pytest.approx(whole, rel=TOLERANCES["float32"])
