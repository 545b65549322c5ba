"""Ranks share an evaluation, and its results have the bits of one process; they share the windows of an update too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.distributed.ranks import codes_of, start_ranks
from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import build_config
from tttkit.data import open_split
from tttkit.distributed.group import joined
from tttkit.distributed.ranks import Ranks
from tttkit.distributed.support import device_of_rank, refuse_unsupported
from tttkit.errors import UsageError
from tttkit.evaluate.measure import evaluate_model
from tttkit.models import build_model
from tttkit.run.world import World, world_of
from tttkit.train.batches import feed
from tttkit.train.resume.changes import refuse_other_config


def evaluate(values, out):
    """Evaluate as several ranks and alone, and fail if one bit differs."""
    config = resolve_config(build_config(values), Facts(vocab_size=300, device="cpu"))
    split = open_split(config.data.path, "validation")
    torch.manual_seed(0)
    model = build_model(config.model)
    alone = evaluate_model(model, split, config.evaluation, window=16)
    shares = []
    with joined(world_of(), timeout=20) as ranks:
        computes = ranks.computes
        ranks.computes = lambda index: shares.append(computes(index)) or shares[-1]
        together = evaluate_model(model, split, config.evaluation, window=16, share=ranks)
    assert together.selection_ppl == alone.selection_ppl
    for context, nll in alone.nll.items():
        assert together.nll[context].tobytes() == nll.tobytes(), context
    assert 0 < sum(shares) < len(shares)


def test_ranks_that_share_an_evaluation_give_the_bits_of_one_process(tiny_values, tmp_path, monkeypatch):
    values = tiny_values(evaluation={"sw_mode": "exact", "num_sequences": 4})
    ranks = start_ranks(2, evaluate, values, str(tmp_path), log=tmp_path / "log")
    assert codes_of(ranks) == [0, 0], (tmp_path / "log").read_text()


def test_a_number_that_no_rank_has_computed_is_not_a_number():
    nll = np.array([1.5, np.nan, -0.0], dtype=np.float32)
    assert Ranks().join(nll).tobytes() == nll.tobytes()


@given(size=st.sampled_from([1, 2, 4]), step=st.integers(1, 40), seen=st.integers(0, 300), state=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_ranks_together_read_the_windows_of_one_process(tiny_data, size, step, seen, state):
    values = {
        "data": {"path": str(tiny_data)},
        "model": {"mini_batch_size": 8, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1},
        "train": {
            "max_steps": 100, "window": 16, "global_batch": 8, "initial_state": "contiguous" if state else "zero",
            "initial_state_reset": 0.3, "initial_state_zero_share": 0.25,
        },
    }  # fmt: skip
    config = resolve_config(build_config(values), Facts(vocab_size=300, device="cpu"))
    split, model = open_split(tiny_data, "train"), build_model(config.model)

    def read(world: World):
        source = feed._Source(model, split, config.train, feed.stages_of(config.train)[0], Ranks(world))
        source.shift(seen)
        return source.read(step)

    windows, resets = read(World())
    parts = [read(World(rank=rank, size=size)) for rank in range(size)]
    assert torch.equal(torch.cat([part[0] for part in parts]), windows)
    if state:
        assert torch.equal(torch.cat([part[1] for part in parts]), resets)


def test_the_batch_of_an_update_follows_from_the_ranks_or_stays_fixed(tiny_values):
    config = build_config(tiny_values(train={"grad_accumulation": 2}))
    two = resolve_config(config, Facts(num_ranks=2))
    assert (two.train.global_batch, two.train.tokens_per_step) == (16, 2 * config.train.tokens_per_step)
    assert two.train.num_batches(2) == 2
    assert resolve_config(config, Facts()).train.global_batch is None
    assert resolve_config(two, Facts(num_ranks=4)).train.num_batches(4) == 1
    with pytest.raises(UsageError, match="3 ranks cannot share evenly"):
        resolve_config(two, Facts(num_ranks=3))


def test_another_number_of_ranks_is_accepted_if_updates_keep_their_windows(tiny_values):
    def resolved(num_ranks, **train):
        return resolve_config(build_config(tiny_values(train=train)), Facts(device="cpu", num_ranks=num_ranks))

    two = resolved(2)
    old = {"data": {}, "config": two.to_dict(), "world_size": 2}
    from tttkit.run.directory import RunDirectory
    from tttkit.train.options import RunOptions

    def check(config, world):
        return refuse_other_config(old, config, RunDirectory("run"), RunOptions(), world)

    assert check(two, World(size=2)) == []
    assert check(two, World(size=4)) == ["world_size: 2 -> 4"]
    assert check(resolved(1, global_batch=8), World()) == ["world_size: 2 -> 1"]
    with pytest.raises(UsageError, match=r"train\.global_batch: 8 -> 16"):
        check(resolved(4), World(size=4))


def test_what_several_ranks_cannot_have_is_refused(tiny_values):
    world = World(rank=1, size=2, local_rank=1)
    config = build_config(tiny_values())
    with pytest.raises(UsageError, match="one rank cannot repeat an update"):
        refuse_unsupported(config, world, auto_microbatch=True)
    with pytest.raises(UsageError, match="needs a GPU of its own"):
        refuse_unsupported(build_config(tiny_values(train={"device": "cuda:1"})), world, auto_microbatch=False)
    refuse_unsupported(build_config(tiny_values(train={"device": "cuda:1"})), World(), auto_microbatch=True)
    assert (device_of_rank("cuda", world), device_of_rank("cuda", World()), device_of_rank("cpu", world)) == (
        "cuda:1", "cuda", "cpu",
    )  # fmt: skip


def test_the_environment_of_torchrun_is_checked():
    environment = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
    assert world_of(environment) == World(rank=1, size=4, local_rank=1, local_size=4)
    assert world_of({}) == World()
    for broken in ({"RANK": "4"}, {"WORLD_SIZE": "two"}):
        with pytest.raises(UsageError, match=next(iter(broken))):
            world_of(environment | broken)
    with pytest.raises(UsageError, match="MASTER_ADDR"):
        world_of({"RANK": "0", "WORLD_SIZE": "2"})
