"""Momentum, rescaling and falling learning rates of the inner loop; test_ttt.py compares all with the specification."""

from __future__ import annotations

import pytest
import torch

from tttkit.models.ttt_reference import reference_forward

from .small import random_ids, small_config, small_model

FIELDS = [{"inner_momentum": 0.7}, {"inner_rescale": True}, {"inner_lr_decay": 1.0}]


def first_layer(**fields):
    return small_model(**fields).model.layers[0].seq_modeling_block.double()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_every_segmentation_equals_the_reference(kind, fields):
    layer, y = first_layer(ttt_layer_type=kind, **fields), normal(2, 19, 16)
    expected = reference_forward(layer, y)
    torch.testing.assert_close(layer(y)[0], expected, rtol=1e-9, atol=1e-10)
    for cuts in ([4, 8, 7], [1] * 19, [3, 2, 9, 1, 4]):
        state, position, outputs = layer.initial_state(2), 0, []
        for part in y.split(cuts, dim=1):
            output, state = layer(part, state, position)
            outputs.append(output)
            position += part.shape[1]
        torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_it_changes_the_second_mini_batch_and_not_the_first(fields):
    plain, changed = first_layer(), first_layer(**fields)
    changed.load_state_dict(plain.state_dict(), strict=False)
    y = normal(1, 12, 16)
    difference = (plain(y)[0] - changed(y)[0]).abs().amax(dim=(0, 2))
    assert difference[:4].max() < 1e-12
    # the change of the first mini-batch is there in the second; what is rescaled shows there too
    assert difference[4:].min() > 1e-6


def test_off_is_the_layer_without_the_fields():
    model = small_model()
    names = {name for layer in model.initial_state(1).layers for name in layer}
    assert names == {"delta1", "pending1"}
    assert not [name for name in model.state_dict() if "momentum" in name]


def test_rescaling_keeps_the_norm_of_every_output_unit():
    model = small_model(inner_rescale=True)
    _, state = model.step(random_ids(2, 12), model.initial_state(2))
    for block, layer in zip(model.model.layers, state.layers, strict=True):
        start = block.seq_modeling_block.W1
        reached = start + layer["delta1"][:, :, :-1]
        torch.testing.assert_close(reached.norm(dim=2), start.norm(dim=1).expand(2, -1, -1), rtol=1e-3, atol=1e-4)
        assert (reached - start).norm() > 0.1


def test_learning_rates_fall_with_the_age_of_each_row():
    layer, y = first_layer(inner_lr_decay=0.5), normal(1, 8, 16)
    young = layer._learning_rates(y, None)
    old = layer._learning_rates(y, {"num_read": torch.tensor([36.0], dtype=torch.float64)})
    torch.testing.assert_close(old[:, :4] / young[:, :4], torch.full((1, 4, 2), 10**-0.5, dtype=torch.float64))
    torch.testing.assert_close(old[:, 4:] / young[:, 4:], torch.full((1, 4, 2), (11 / 2) ** -0.5, dtype=torch.float64))


def test_momentum_begins_at_the_configured_share():
    layer = small_model(scale=0.0, inner_momentum=0.8).model.layers[0].seq_modeling_block
    torch.testing.assert_close(layer._momentum(1), torch.full((2, 1, 1), 0.8))


def test_a_state_from_a_window_is_a_start_for_the_next():
    """Training detaches the state between windows; momentum must not carry a gradient of the earlier window."""
    model = small_model(inner_momentum=0.5, inner_rescale=True)
    _, state = model.step(random_ids(2, 8), model.initial_state(2))
    loss, _ = model(random_ids(2, 8), random_ids(2, 8, seed=1), state.detach())
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inner_momentum": 1.0}, "model.inner_momentum must be at least 0 and below 1, got 1.0"),
        ({"inner_lr_decay": -1}, "model.inner_lr_decay must be in 0 … 4, got -1"),
        ({"architecture": "sw", "inner_rescale": True}, "model.inner_rescale is for ttt models, got architecture sw"),
        ({"architecture": "mamba2", "inner_lr_decay": 0.5}, "model.inner_lr_decay is for ttt models"),
    ],
)
def test_values_that_fit_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        small_config(**fields)


def test_the_mean_decay_is_reported():
    figures = small_model(inner_decay="head", scale=0.0).diagnostics(random_ids(2, 12))
    assert figures["mean_decay"] == pytest.approx([0.999, 0.999], abs=1e-4)
    assert "mean_decay" not in small_model().diagnostics(random_ids(2, 12))
