"""The two parameter groups of the optimizer."""

from __future__ import annotations

import pytest

from tttkit.config.run import OptimizerConfig
from tttkit.models import ModelConfig, build_model
from tttkit.train.optim import build_optimizer, set_learning_rate

TINY = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    "options", [{}, {"ttt_layer_type": "mlp", "use_gate": True, "share_qk": True, "pre_conv": True}]
)
def test_decay_touches_projections_only(options):
    model = build_model(ModelConfig(**TINY, **options))
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.1))
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == ("_proj." in name), name
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert optimizer.param_groups[1]["weight_decay"] == 0.0


def test_both_groups_are_in_the_order_of_the_parameters():
    """A saved optimizer state refers to parameters by their position in the groups."""
    model = build_model(ModelConfig(**TINY, use_gate=True))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, OptimizerConfig()).param_groups
    ordered = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert ordered[0] == [name for name in names.values() if "_proj." in name]
    assert ordered[1] == [name for name in names.values() if "_proj." not in name]
    for name in ("embed_tokens.weight", "W1", "b1", "seq_norm.weight", "learnable_ttt_lr_weight", "post_norm.bias"):
        assert any(other.endswith(name) for other in ordered[1]), name


def test_learning_rate_is_set_for_all_groups():
    optimizer = build_optimizer(build_model(ModelConfig(**TINY)), OptimizerConfig())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
