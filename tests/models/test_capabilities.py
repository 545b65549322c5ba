"""Layers of every architecture declare their state, memory, arithmetic and weight decay."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tttkit.models import ModelConfig, build_model
from tttkit.models.block import Block
from tttkit.models.registry import SEQUENCE_LAYERS

from .small import ARCHITECTURES, MEMORIES, random_ids, small_config, small_model

all_architectures = pytest.mark.parametrize("fields", ARCHITECTURES.values(), ids=ARCHITECTURES)


def test_every_architecture_of_the_registry_is_tested_here():
    assert {small_config(**fields).architecture for fields in ARCHITECTURES.values()} == {*SEQUENCE_LAYERS, "hybrid"}


@all_architectures
def test_the_config_knows_before_building_whether_there_is_a_state(fields):
    model = small_model(**fields)
    assert model.has_state == model.config.has_state
    assert model.has_state == (model.state_bytes(1, 100) == model.state_bytes(1, 0)), "a cache grows"
    if model.has_state:
        tensors = [tensor for layer in model.initial_state(2).layers for tensor in layer.values()]
        assert not any(tensor.any() for tensor in tensors), "zeros are the start of a text"


@all_architectures
@pytest.mark.parametrize("length", [0, 3, 9])
def test_state_bytes_equal_the_size_of_the_state(fields, length):
    model = small_model(**fields)
    state = model.initial_state(3)
    if length:
        _, state = model.step(random_ids(3, length), state)
    assert model.state_bytes(3, length) == state.num_bytes
    assert state.num_bytes == sum(
        len(tensor.detach().numpy().tobytes()) for layer in state.layers for tensor in layer.values()
    )


def test_flops_of_the_reference_model():
    """912 MFLOP in matrices and 12.4 MFLOP in the inner loop, per token."""
    with torch.device("meta"):
        transformer, linear, mlp = (
            build_model(ModelConfig.preset(name, **fields))
            for name, fields in (("transformer-125m", {}), ("ttt-125m", {}), ("ttt-125m", {"ttt_layer_type": "mlp"}))
        )
    matrices = transformer.flops_per_token(0)
    assert matrices == 6 * (12 * (4 * 768**2 + 3 * 768 * 3072) + 50_257 * 768)
    assert matrices == pytest.approx(911.7e6, rel=1e-3)
    assert transformer.flops_per_token(64) - matrices == 6 * 12 * 768 * 64
    assert linear.flops_per_token(64) - matrices == pytest.approx(12.4e6, rel=0.03)
    assert linear.flops_per_token(64) - matrices == 6 * 12 * 12 * (3 * 64**2 + 2 * 16 * 64)
    assert mlp.flops_per_token(64) - matrices == 6 * 12 * 12 * (24 * 64**2 + 5 * 16 * 64)


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"use_gate": True}, {"ttt_layer_type": "mlp"}, {"architecture": "transformer"},
    ],
    ids=str,
)  # fmt: skip
def test_flops_are_close_to_the_count_of_torch(fields):
    """Torch counts matrix products only, and counts attention over the whole text."""
    declared, counted = declared_and_counted_flops(16, **fields)
    assert declared == pytest.approx(counted, rel=0.08)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("decay", ["head", "token"])
def test_flops_of_a_decay_are_close_to_the_count_of_torch(kind, decay):
    plain, decaying = (
        declared_and_counted_flops(64, ttt_layer_type=kind, inner_decay=each) for each in ("none", decay)
    )
    # torch counts the column of the bias too
    assert decaying[0] - plain[0] == pytest.approx(decaying[1] - plain[1], rel=0.08)


@pytest.mark.parametrize("fields", MEMORIES.values(), ids=MEMORIES)
def test_flops_of_a_memory_are_close_to_the_count_of_torch(fields):
    """Torch does not count triangular systems, nor the last update of fast weights, which nobody reads."""
    declared, counted = declared_and_counted_flops(192, **{**fields, "state_size": 32, "fast_rank": 0})
    assert counted * 0.99 < declared < counted * 1.1


def declared_and_counted_flops(length, **fields):
    config = small_config(hidden_size=64, intermediate_size=96, num_attention_heads=2, mini_batch_size=8, **fields)
    model, ids = build_model(config, seed=0), random_ids(2, length + 1)
    with FlopCounterMode(display=False) as counter:
        model.head(model.hidden_states(ids[:, :-1])).sum().backward()
    # it takes a convolution of single channels for one of all channels
    counts = counter.get_flop_counts()["Global"]
    counted = sum(count for operation, count in counts.items() if "convolution" not in str(operation))
    return model.flops_per_token(length), counted / (2 * length)


def test_a_window_bounds_the_flops_of_attention():
    """While the text fits in the window nothing differs; later each token attends to the window."""
    full, window = (small_model(architecture=name) for name in ("transformer", "sw"))
    assert [full.flops_per_token(n) == window.flops_per_token(n) for n in (5, 6, 9)] == [True, True, False]
    layers = 6 * 2 * 16
    for length in (12, 60, 600):
        seen = sum(min(position, 6) for position in range(1, length + 1)) / length
        attention = (window.flops_per_token(length) - window.flops_per_token(0)) / layers
        assert attention == pytest.approx(2 * seen, abs=1.01)


@all_architectures
def test_projections_decay_and_nothing_else_does(fields):
    model = small_model(**fields)
    decayed = {id(parameter) for parameter in model.decayed_parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names == {name for name, _ in model.named_parameters() if name.endswith("_proj.weight")}
    assert any("seq_modeling_block" in name for name in names)


def test_the_head_and_parameters_that_a_layer_does_not_declare_do_not_decay(monkeypatch):
    model = small_model(tie_word_embeddings=False)
    assert id(model.lm_head.weight) not in {id(parameter) for parameter in model.decayed_parameters()}
    monkeypatch.setattr(
        type(model.model.layers[0].seq_modeling_block), "decayed_parameters", lambda layer: iter([layer.W1])
    )
    decayed = {id(parameter) for parameter in model.decayed_parameters()}
    names = [name.split(".")[-2:] for name, parameter in model.named_parameters() if id(parameter) in decayed]
    assert names == 2 * [
        ["seq_modeling_block", "W1"], ["gate_proj", "weight"], ["up_proj", "weight"], ["down_proj", "weight"],
    ]  # fmt: skip


def test_memory_per_token():
    """D is 16 and I 24; TTT-MLP needs more for its states."""
    linear, mlp, attention = (
        small_model(**fields) for fields in ({}, {"ttt_layer_type": "mlp"}, {"architecture": "sw"})
    )
    assert linear.bytes_per_token() == attention.bytes_per_token() == 4 * (22 * 16 + 3 * 24)
    assert mlp.bytes_per_token() == 4 * (58 * 16 + 3 * 24)


def test_a_model_needs_as_much_memory_as_its_largest_block():
    model = small_model()
    block = model.model.layers[1]
    assert isinstance(block, Block)
    block.bytes_per_token = lambda: 1_000_000
    assert model.bytes_per_token() == 1_000_000


class _HostReads(TorchDispatchMode):
    """Notes operations that bring a value from the device to the host or back."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.lift_fresh.default):
            self.names.append(function.name())
        return function(*args, **(kwargs or {}))


@all_architectures
def test_an_update_reads_nothing_on_the_host(fields, monkeypatch):
    """On a GPU a whole update is one CUDA graph, which cannot wait for a value in the middle."""
    monkeypatch.setattr("tttkit.models.backbone.check_input_ids", lambda *_: None)  # only done on a CPU
    model, ids = small_model(**fields), random_ids(2, 13)
    with _HostReads() as reads:
        model(ids[:, :-1], targets=ids[:, 1:]).backward()
    assert reads.names == []
