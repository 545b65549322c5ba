"""The state decays at every window boundary, however the text is cut into segments."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from tttkit.models import ModelConfig, ModelState, load_model, save_model

from .small import VARIANTS, random_ids, small_config, small_model

DECAYS = {"fixed": {"state_decay": 0.7}, "learned": {"state_decay": 0.6, "learn_state_decay": True}}


def decaying(**fields):
    return small_model(**{"decay_window": 8, "state_decay": 0.7, **fields})


def by_hand(model, ids, kept):
    """Return the logits of windows of 8 tokens; between windows, pull the state of each head toward its start."""
    plain = small_model(**{name: getattr(model.config, name) for name in ("ttt_layer_type", "pre_conv", "share_qk")})
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "state_decay" not in k})
    state, parts = plain.initial_state(ids.shape[0]), []
    for window in ids.split(8, dim=1):
        logits, state = plain.step(window, state)
        parts.append(logits)
        layers = tuple(
            {name: t * kept[i].view(1, -1, 1, 1) if name.startswith("delta") else t for name, t in layer.items()}
            for i, layer in enumerate(state.layers)
        )
        state = ModelState(position=state.position, layers=layers)
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS)
@pytest.mark.parametrize("fields", [{}, {"ttt_layer_type": "mlp"}, {"share_qk": True, "pre_conv": True}])
def test_the_state_keeps_its_share_at_every_border(decay, fields):
    model, ids = decaying(**fields, **decay), random_ids(2, 30)
    kept = [torch.full((2,), 0.7)] * 2
    if model.config.learn_state_decay:
        kept = [layer.seq_modeling_block.learnable_state_decay.detach().sigmoid() for layer in model.model.layers]
    torch.testing.assert_close(model(ids), by_hand(model, ids, kept), rtol=0, atol=1e-5)
    without = [torch.ones(2)] * 2
    assert (model(ids) - by_hand(model, ids, without))[:, 8:].abs().max() > 1e-3


@pytest.mark.parametrize("segments", [[30], [1] * 30, [8, 8, 8, 6], [5, 20, 5], [3, 5, 1, 15, 6], [12, 4, 9, 5]])
@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS)
def test_any_segmentation_equals_one_pass(segments, decay):
    model, ids = decaying(**decay), random_ids(2, 30)
    state, parts = model.initial_state(2), []
    for part in ids.split(segments, dim=1):
        logits, state = model.step(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_a_learned_share_starts_at_its_value_and_receives_a_gradient(fields):
    model = decaying(learn_state_decay=True, state_decay=0.9, scale=0.0, **fields)
    for layer in model.model.layers:
        torch.testing.assert_close(layer.seq_modeling_block.learnable_state_decay.sigmoid(), torch.full((2,), 0.9))
    model(random_ids(2, 20)).square().sum().backward()
    assert all(layer.seq_modeling_block.learnable_state_decay.grad.abs().min() > 0 for layer in model.model.layers)


def test_decay_is_saved_with_the_model(tmp_path):
    model, ids = decaying(learn_state_decay=True), random_ids(1, 20)
    save_model(model, tmp_path / "m")
    assert torch.equal(load_model(tmp_path / "m")(ids), model(ids))


def test_a_share_of_one_is_the_plain_model():
    assert not small_config().decays
    assert torch.equal(small_model(decay_window=8)(random_ids(1, 20)), small_model()(random_ids(1, 20)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state_decay": 1.5}, "state_decay must be in 0 … 1, got 1.5"),
        ({"state_decay": 1.0, "learn_state_decay": True}, "must lie between 0 and 1 if it is learned"),
        (
            {"state_decay": 0.5, "decay_window": 6},
            "decay_window must be a multiple of model.mini_batch_size, got 6 and 4",
        ),
        ({"state_decay": 0.5, "architecture": "sw"}, "is for ttt models, got architecture sw"),
    ],
)
def test_an_impossible_decay_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(mini_batch_size=4, **fields)
