"""Hybrid models: which layer is where, and the window layer that carries its state over."""

from __future__ import annotations

import pytest
import torch

from tests.models.small import random_ids, small_config, small_model
from tttkit.config.model import ModelConfig
from tttkit.config.presets import PRESET_NAMES, preset_values
from tttkit.errors import UsageError
from tttkit.models.carried_window import CarriedWindow
from tttkit.models.sliding_window import SlidingWindowAttention


def test_the_pattern_is_repeated_from_the_lowest_layer_on():
    config = small_config(pattern=["ttt-mlp", "sw", "mamba2"], num_hidden_layers=5)
    assert config.layer_kinds == ["ttt-mlp", "sw", "mamba2", "ttt-mlp", "sw"]
    assert [each.name for each in config.layer_configs()] == config.layer_kinds
    assert [each.mini_batch_size for each in config.layer_configs()] == [4, 1, 1, 4, 1]
    assert (config.architecture, config.name, config.mini_batch_size) == ("hybrid", "ttt-mlp+sw+mamba2", 4)
    assert small_config(pattern=["mamba2", "sw"]).mini_batch_size == 1


def test_a_pattern_of_one_kind_computes_what_that_model_computes():
    plain, hybrid = small_model(), small_model(pattern=["ttt-linear"])
    hybrid.load_state_dict(plain.state_dict())
    assert torch.equal(hybrid(random_ids(2, 21)), plain(random_ids(2, 21)))


def test_the_window_of_a_hybrid_equals_the_sliding_window_baseline():
    torch.manual_seed(0)
    config = small_config(architecture="sw", sliding_window=6)
    carried, baseline = CarriedWindow(config).double(), SlidingWindowAttention(config).double()
    baseline.load_state_dict(carried.state_dict())
    y = torch.randn(2, 40, config.hidden_size, dtype=torch.float64)
    expected, _ = baseline(y)
    one_pass = carried(y)[0]
    # the baseline computes its rotary tables in float32
    torch.testing.assert_close(one_pass, expected, rtol=1e-4, atol=1e-6)
    state, reads = carried.initial_state(2), []
    for segment in y.split([1, 9, 30], dim=1):
        read, state = carried(segment, state)
        reads.append(read)
    torch.testing.assert_close(torch.cat(reads, dim=1), one_pass, rtol=1e-9, atol=1e-12)


def test_a_decay_is_that_of_the_ttt_layers():
    config = small_config(pattern=["ttt-linear", "sw"], state_decay=0.9, decay_window=8)
    assert [each.state_decay for each in config.layer_configs()] == [0.9, 1.0]
    config = small_config(pattern=["ttt-linear", "sw"], inner_decay="token")
    assert [each.inner_decay for each in config.layer_configs()] == ["token", "none"]


@pytest.mark.parametrize("name", ["ttt-hybrid-125m", "gdn-hybrid-125m"])
def test_presets_have_the_size_of_the_reference(name):
    from tttkit.models import build_model

    with torch.device("meta"):
        model = build_model(ModelConfig.preset(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(152_609_616, rel=0.01)


@pytest.mark.parametrize("name", [name for name in PRESET_NAMES if name.startswith("quick-")])
def test_quick_presets_have_the_size_of_quick(name):
    from tttkit.models import build_model

    sizes = {}
    for each in ("quick", name):
        with torch.device("meta"):
            model = build_model(ModelConfig(**{**preset_values(each)["model"], "vocab_size": 2048}))
        sizes[each] = sum(parameter.numel() for parameter in model.parameters())
    assert sizes[name] == pytest.approx(sizes["quick"], rel=0.02)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pattern": ["ttt-linear", "lstm"]}, "model.pattern holds `lstm`, which is none of ttt-linear"),
        ({"architecture": "hybrid"}, "model.pattern is needed"),
        ({"pattern": ["mamba2", "sw"], "state_decay": 0.9}, "model.state_decay is for ttt models"),
        ({"pattern": ["ttt-linear", "lact"], "fast_heads": 3}, "model.fast_heads must divide 16"),
    ],
)
def test_patterns_that_fit_nothing_are_refused(fields, message):
    with pytest.raises((UsageError, ValueError), match=message):
        small_config(**fields)
