"""A memory and a window beside it, for every kind of memory."""

from __future__ import annotations

import pytest
import torch

from tttkit.config.model import MODEL_NAMES, name_to_fields
from tttkit.models import build_model
from tttkit.models.carried_window import CarriedWindow
from tttkit.models.parallel_window import ParallelWindow

from .small import random_ids, small_config, small_model

MEMORIES = [name for name in MODEL_NAMES if name not in ("sw", "transformer", "lact")]


def parallel_model(name: str, **fields):
    return small_model(**{"parallel_window": True, **name_to_fields(name), **fields}).double()


@pytest.mark.parametrize("name", MEMORIES)
def test_both_read_the_same_text_and_are_added(name):
    layer = parallel_model(name).model.layers[1].seq_modeling_block
    y = torch.randn(2, 9, 16, dtype=torch.float64)
    gate = torch.nn.functional.silu(layer.memory_gate_proj(y)).repeat_interleave(8, dim=-1)
    torch.testing.assert_close(layer(y)[0], layer.window(y)[0] + gate * layer.memory(y)[0], rtol=1e-9, atol=1e-12)
    assert layer.memory.layer_index == layer.window.layer_index == 1
    assert not layer.memory.initial_state(1).keys() & layer.window.initial_state(1).keys() - {"num_read"}


@pytest.mark.parametrize("name", MEMORIES)
def test_any_segmentation_equals_one_pass_for_every_memory(name):
    model, ids = parallel_model(name, sink="tokens", num_sinks=2, sliding_window=3), random_ids(2, 40)
    state, parts = model.initial_state(2), []
    for part in ids.split([5, 1, 30, 4], dim=1):
        logits, state = model.step(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=0, atol=1e-9)


def test_training_begins_with_attention_to_the_window():
    model = build_model(small_config(hidden_size=64, parallel_window=True), seed=0)
    layer = model.model.layers[0].seq_modeling_block
    y = torch.randn(2, 12, 64)
    read, _ = layer.window(y)
    learned, _ = layer.memory(y)
    ratio = (layer(y)[0] - read).norm() / learned.norm()
    assert 0 < ratio < 0.15
    layer(y)[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.memory.v_proj.parameters())


def test_a_hybrid_has_windows_beside_its_memories_only():
    layers = small_model(pattern=["ttt-linear", "sw"], parallel_window=True, sink="tokens").model.layers
    assert [type(block.seq_modeling_block) for block in layers] == [ParallelWindow, CarriedWindow]
    transformers = small_config(pattern=["mamba2", "transformer"], parallel_window=True, sink="logit").layer_configs()
    assert [(each.parallel_window, each.sink) for each in transformers] == [(True, "logit"), (False, "none")]


def test_a_mini_batch_may_be_as_large_as_the_window():
    """All gradients of a window are then taken at the weights of its start."""
    model, ids = parallel_model("ttt-linear", mini_batch_size=8, sliding_window=8), random_ids(2, 24)
    state, parts = model.initial_state(2), []
    for part in ids.split([8, 3, 13], dim=1):
        logits, state = model.step(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=0, atol=1e-9)


def test_the_figures_of_the_memory_are_reported():
    assert "inner_loss_before" in small_model(parallel_window=True).diagnostics(random_ids(2, 12))
    assert "memory_norm" in parallel_model("titans").diagnostics(random_ids(2, 12))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "sw"}, "model.parallel_window is for models with a memory, got sw"),
        ({"architecture": "lact"}, "model.parallel_window is not for lact, which has a window of its own, got lact"),
        ({"pattern": ["lact", "mamba2"]}, r"which has a window of its own, got lact\+mamba2"),
    ],
)
def test_models_that_cannot_have_a_window_beside_them_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        small_config(parallel_window=True, **fields)
