"""Under FSDP2 with bf16 every architecture has the loss and the gradients of one process under autocast."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from tests.distributed.ranks import codes_of, start_ranks
from tests.models.small import ARCHITECTURES
from tttkit.distributed.group import joined
from tttkit.distributed.sharded import shard, whole
from tttkit.models import ModelConfig, build_model
from tttkit.run.world import world_of

SLOW = bool(os.environ.get("TTTKIT_SLOW_TESTS"))
NAMES = list(ARCHITECTURES) if SLOW else [name for name in ARCHITECTURES if name.startswith(("lact", "ttt-linear"))]
SIZES = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TOLERANCE = 2e-3
"""Relative difference of gradients, in norm: bf16 rounds to 2^-9 = 2e-3."""


def loss_of(model):
    torch.manual_seed(2)
    windows = torch.randint(0, 61, (2, 33))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(windows[:, :-1], targets=windows[:, 1:])
    loss.backward()
    return loss.item()


def watch(model):
    """Return the dtypes of the weights of all blocks, which are known after a forward pass."""
    dtypes = {}
    for index, block in enumerate(model.model.layers):

        def look(*_, index=index, block=block):
            dtypes.update((f"{index}.{key}", each.dtype) for key, each in block.named_parameters())

        block.ffn_norm.register_forward_hook(look)
    return dtypes


def compare(names: list[str]) -> None:
    """Compare each architecture, and the dtypes of its weights during the forward pass."""
    with joined(world_of(), timeout=20) as ranks:
        for name in names:
            fields = {**SIZES, "mini_batch_size": 8, "sliding_window": 6, **ARCHITECTURES[name]}
            torch.manual_seed(1)
            alone, sharded = (build_model(ModelConfig(**fields)) for _ in range(2))
            sharded.load_state_dict(alone.state_dict())
            shard(sharded, ranks.world, "bf16")
            dtypes = watch(sharded)
            expected = loss_of(alone)
            assert loss_of(sharded) == pytest.approx(expected, rel=1e-6), name
            linear = {
                f"{key}.weight" for key, each in alone.model.layers.named_modules() if isinstance(each, nn.Linear)
            }
            assert dtypes["0.mlp.up_proj.weight"] == torch.bfloat16
            assert {dtypes[key] for key in dtypes.keys() - linear} == {torch.float32}, name
            assert not any(dtypes[key] == torch.bfloat16 for key in dtypes if "lr_proj" in key)
            for (key, left), right in zip(alone.named_parameters(), sharded.parameters(), strict=True):
                assert right.dtype == right.grad.dtype == torch.float32
                difference = (whole(right.grad) - left.grad).norm() / left.grad.norm().clamp(min=1e-12)
                assert difference < TOLERANCE, (name, key, difference)


def test_bf16_in_shards_has_the_loss_and_the_gradients_of_one_process(tmp_path):
    ranks = start_ranks(2, compare, NAMES, log=tmp_path / "log")
    assert codes_of(ranks) == [0, 0], (tmp_path / "log").read_text()
