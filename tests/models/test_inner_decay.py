"""Decay of the fast weights at every token."""

from __future__ import annotations

import pytest
import torch

from tttkit.models.ttt_decay import INITIAL_SHARE
from tttkit.models.ttt_reference import reference_forward
from tttkit.models.ttt_scan import fused_obstacle

from .small import random_ids, small_config, small_model

KINDS = ("linear", "mlp")
MODES = ("head", "token")


def decaying_layer(kind: str, mode: str, bias: float):
    layer = small_model(ttt_layer_type=kind, inner_decay=mode).model.layers[0].seq_modeling_block.double()
    with torch.no_grad():
        layer.inner_decay_bias.fill_(bias)
    return layer


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [-7.0, 0.0, 200.0])
def test_every_segmentation_equals_the_reference_at_weak_and_strong_decay(kind, mode, bias):
    layer, y = decaying_layer(kind, mode, bias), normal(2, 18, 16)
    expected = reference_forward(layer, y)
    torch.testing.assert_close(layer(y)[0], expected, rtol=1e-9, atol=1e-10)
    for cuts in ([4, 8, 6], [1] * 18, [3, 2, 9, 1, 3]):
        state, position, outputs = layer.initial_state(2), 0, []
        for part in y.split(cuts, dim=1):
            output, state = layer(part, state, position)
            outputs.append(output)
            position += part.shape[1]
        torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_at_strong_decay_and_right_at_moderate_decay(kind):
    layer, y = decaying_layer(kind, "token", 800.0), normal(1, 9, 16).requires_grad_()
    layer(y)[0].square().sum().backward()
    assert y.grad.isfinite().all()
    layer = decaying_layer(kind, "token", 0.5)
    names = ("inner_decay_weight", "inner_decay_bias")
    values = [layer.get_parameter(name).detach().requires_grad_() for name in names]

    def run(y, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (y,))[0]

    assert torch.autograd.gradcheck(run, (normal(1, 6, 16).requires_grad_(), *values), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_training_begins_near_no_forgetting(mode):
    layer = small_model(inner_decay=mode, scale=0.0).model.layers[0].seq_modeling_block
    share = layer._log_decay(torch.randn(1, 3, 16)).exp()
    torch.testing.assert_close(share, torch.full((1, 3, 2), INITIAL_SHARE))


def test_without_decay_there_are_no_parameters_and_no_state_of_it():
    model = small_model()
    assert not [name for name in model.state_dict() if "inner_decay" in name]
    assert "pending_decay" not in model.model.layers[0].seq_modeling_block.initial_state(1)
    forgetful = small_model(inner_decay="head")
    assert not torch.equal(model(random_ids(1, 20)), forgetful(random_ids(1, 20)))


def test_the_kernel_leaves_decay_to_the_plain_code():
    config = small_config(inner_decay="token")
    assert fused_obstacle(config, "cuda", torch.float32) == "none for model.inner_decay"


def test_decay_is_for_ttt_models():
    with pytest.raises(ValueError, match="inner_decay is for ttt models, got architecture sw"):
        small_config(architecture="sw", inner_decay="head")
