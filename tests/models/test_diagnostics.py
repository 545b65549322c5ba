"""What the inner loops report, against the token-by-token specification."""

from __future__ import annotations

import pytest
import torch

from tttkit.models.inner_metrics import inner_metrics
from tttkit.models.ttt_reference import inner_loss

from .small import VARIANTS, random_ids, small_model


def losses_by_hand(layer, y):
    """Inner loss before and after learning of one row y (L, D), every token on its own, from the specification."""
    from tttkit.models.layers import rotate
    from tttkit.models.ttt_reference import _projections

    config, (_, keys, values) = layer.config, _projections(layer, y[None])
    d, size = config.head_dim, config.mini_batch_size
    before, after = torch.zeros(len(y)), torch.zeros(len(y))
    for head in range(config.num_attention_heads):
        part = slice(head * d, (head + 1) * d)
        norm = layer.ttt_norm_weight[head], layer.ttt_norm_bias[head]
        names = [name for name in ("W1", "b1", "W2", "b2") if hasattr(layer, name)]
        weights = {name: layer.get_parameter(name)[head].detach() for name in names}
        sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for token in range(len(y)):
            slot = token % size
            key = rotate(keys[0, token : token + 1, part], layer.rotary_cos[slot], layer.rotary_sin[slot])
            value = values[0, token : token + 1, part]
            gate = layer.learnable_ttt_lr_weight[head, 0] @ y[token] + layer.learnable_ttt_lr_bias[head, 0]
            gradient = torch.func.grad(inner_loss)(weights, key, value, *norm)
            sums = {name: sums[name] + torch.sigmoid(gate) / d * gradient[name] for name in names}
            factor = torch.clamp(1 / (slot + 1) + layer.learnable_token_idx[slot], min=0)
            learned = {name: weights[name] - factor * sums[name] for name in names}
            before[token] += inner_loss(weights, key, value, *norm) / d
            after[token] += inner_loss(learned, key, value, *norm) / d
            if slot == size - 1:
                weights, sums = learned, {name: torch.zeros_like(weight) for name, weight in weights.items()}
    return before / config.num_attention_heads, after / config.num_attention_heads


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_losses_equal_the_specification(fields):
    layer = small_model(**fields).model.layers[0].seq_modeling_block
    y = torch.randn(2, 14, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = [losses_by_hand(layer, row) for row in y]
    found = layer.inner_losses(y)
    for i in range(2):
        torch.testing.assert_close(found[i], torch.stack([row[i] for row in expected]).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [4, 6, 13])
def test_losses_go_on_from_a_state(cut):
    model = small_model(state_decay=0.5, decay_window=8)
    layer = model.model.layers[0].seq_modeling_block
    y = torch.randn(2, 20, 16, generator=torch.Generator().manual_seed(4))
    whole = layer.inner_losses(y)
    _, state = layer(y[:, :cut], layer.initial_state(2), 0)
    rest = layer.inner_losses(y[:, cut:], state, cut)
    for i in range(2):
        torch.testing.assert_close(rest[i], whole[i][cut:], rtol=1e-4, atol=1e-5)


def test_metrics_of_a_model():
    model, ids = small_model(), random_ids(3, 12)
    found = inner_metrics(model, ids)
    _, state = model.step(ids, model.initial_state(3))
    norms = [layer["delta1"].flatten(1).norm(dim=1).square().mean().sqrt().item() for layer in state.layers]
    assert found.fast_weight_norm == pytest.approx(norms)
    first = model.model.layers[0]
    y = [first.seq_norm(model.model.embed_tokens(ids))]
    after_first, _ = first(model.model.embed_tokens(ids))
    y.append(model.model.layers[1].seq_norm(after_first))
    losses = [layer.seq_modeling_block.inner_losses(each) for layer, each in zip(model.model.layers, y, strict=True)]
    assert found.before == pytest.approx(torch.stack([loss[0] for loss in losses]).mean(0).tolist(), rel=1e-4)
    assert found.after == pytest.approx(torch.stack([loss[1] for loss in losses]).mean(0).tolist(), rel=1e-4)
    assert not any(layer.seq_modeling_block._forward_pre_hooks for layer in model.model.layers)
    record = found.to_record()
    assert record.keys() == {"inner_loss_before", "inner_loss_after", "fast_weight_norm"}
    assert record["fast_weight_norm"] == pytest.approx(norms, rel=1e-4)


def test_learning_lowers_the_loss_of_a_fresh_model():
    found = inner_metrics(small_model(scale=0.02), random_ids(4, 16))
    assert sum(found.after) < sum(found.before)


def test_attention_has_no_inner_loop():
    with pytest.raises(ValueError, match="must have TTT layers, got transformer"):
        inner_metrics(small_model(architecture="transformer"), random_ids(1, 4))
