"""Exact sizes: the reference model, its official variants, and baselines of the same size."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tttkit.config.presets import PRESET_NAMES, preset_values
from tttkit.config.run import build_config
from tttkit.models import ModelConfig, build_model
from tttkit.models.registry import SEQUENCE_LAYERS

REFERENCE = 152_609_616


def count(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, REFERENCE),
        ({"mini_batch_size": 64}, 152_610_192),
        ({"pre_conv": True}, 152_664_912),
        ({"share_qk": True}, 145_623_888),
        ({"use_gate": True}, 159_687_504),
        ({"use_gate": True, "share_qk": True}, 152_701_776),
        ({"use_gate": True, "share_qk": True, "pre_conv": True}, 152_757_072),
        ({"ttt_layer_type": "mlp"}, 156_775_248),
        ({"intermediate_size": 2048}, 124_298_064),
        ({"tie_word_embeddings": False}, 191_206_992),
    ],
)
def test_reference_and_its_variants(fields, expected):
    assert count(ModelConfig.preset("ttt-125m", **fields)) == expected


@pytest.mark.parametrize(
    ("name", "linear", "mlp"),
    [
        ("official-125m", 110_276_688, 114_442_320),
        ("official-350m", 337_291_008, 348_399_360),
        ("official-760m", 733_018_368, 757_938_432),
        ("official-1b", 1_284_852_864, 1_307_069_568),
    ],
)
def test_official_presets(name, linear, mlp):
    """Counted from the official code's own standard configurations."""
    assert count(ModelConfig.preset(name)) == linear
    assert count(ModelConfig.preset(name, ttt_layer_type="mlp")) == mlp


@pytest.mark.parametrize("name", [f"{architecture}-125m" for architecture in SEQUENCE_LAYERS if architecture != "ttt"])
def test_baselines_are_within_one_percent_of_the_reference(name):
    assert abs(count(ModelConfig.preset(name)) / REFERENCE - 1) < 0.01


@pytest.mark.parametrize("name", [name for name in PRESET_NAMES if name.startswith("quick-")])
def test_models_of_the_quick_presets_have_its_size(name):
    """With the 2,048 tokens of their tokenizer, so that recipes can be compared at equal size."""
    sizes = [
        count(dataclasses.replace(build_config(preset_values(each)).model, vocab_size=2048)) for each in (name, "quick")
    ]
    assert abs(sizes[0] / sizes[1] - 1) < 0.02
