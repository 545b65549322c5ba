"""The figures that the layers report equal the token-by-token specification."""

from __future__ import annotations

import pytest
import torch

from tttkit.models.ttt_reference import inner_loss, projections, read_head

from .small import VARIANTS, random_ids, small_model


def losses_by_hand(layer, y):
    """Return the inner loss of one row y (L, D) before and after learning, token by token, from the specification."""
    config, inputs = layer.config, [x[0] for x in projections(layer, y[None])]
    before, after = torch.zeros(len(y)), torch.zeros(len(y))
    for head in range(config.num_attention_heads):
        norm = layer.ttt_norm_weight[head], layer.ttt_norm_bias[head]
        for at, token in enumerate(read_head(layer, head, y, *inputs)):
            before[at] += inner_loss(token.unlearned, token.key, token.value, *norm) / config.head_dim
            after[at] += inner_loss(token.learned, token.key, token.value, *norm) / config.head_dim
    return before / config.num_attention_heads, after / config.num_attention_heads


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_losses_equal_the_specification(fields):
    layer = small_model(**fields).model.layers[0].seq_modeling_block
    y = torch.randn(2, 14, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = [losses_by_hand(layer, row) for row in y]
    losses = layer.inner_losses(y)
    for i in range(2):
        torch.testing.assert_close(losses[i], torch.stack([row[i] for row in expected]).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [4, 6, 13])
def test_losses_continue_from_a_state(cut):
    model = small_model(state_decay=0.5, decay_window=8)
    layer = model.model.layers[0].seq_modeling_block
    y = torch.randn(2, 20, 16, generator=torch.Generator().manual_seed(4))
    whole = layer.inner_losses(y)
    _, state = layer(y[:, :cut], layer.initial_state(2), 0)
    rest = layer.inner_losses(y[:, cut:], state, cut)
    for i in range(2):
        torch.testing.assert_close(rest[i], whole[i][cut:], rtol=1e-4, atol=1e-5)


def test_diagnostics_of_a_model():
    model, ids = small_model(), random_ids(3, 12)
    record = model.diagnostics(ids)
    assert record.keys() == {"inner_loss_before", "inner_loss_after", "fast_weight_norm"}
    _, state = model.step(ids, model.initial_state(3))
    norms = [layer["delta1"].flatten(1).norm(dim=1).square().mean().sqrt().item() for layer in state.layers]
    assert record["fast_weight_norm"] == pytest.approx(norms, rel=1e-4)
    first = model.model.layers[0]
    y = [first.seq_norm(model.model.embed_tokens(ids))]
    after_first, _ = first(model.model.embed_tokens(ids))
    y.append(model.model.layers[1].seq_norm(after_first))
    losses = [layer.seq_modeling_block.inner_losses(each) for layer, each in zip(model.model.layers, y, strict=True)]
    assert record["inner_loss_before"] == pytest.approx(
        torch.stack([loss[0] for loss in losses]).mean(0).tolist(), rel=1e-4
    )
    assert record["inner_loss_after"] == pytest.approx(
        torch.stack([loss[1] for loss in losses]).mean(0).tolist(), rel=1e-4
    )
    assert not any(layer.seq_modeling_block._forward_pre_hooks for layer in model.model.layers)
    figures = [value for values in record.values() for value in values]
    assert figures == [float(f"{value:.5g}") for value in figures], "rounded to five digits"


def test_diagnostics_continue_from_a_state():
    model, ids = small_model(), random_ids(3, 20)
    _, state = model.step(ids[:, :12], model.initial_state(3))
    whole, rest = model.diagnostics(ids), model.diagnostics(ids[:, 12:], state)
    assert rest["inner_loss_after"] == pytest.approx(whole["inner_loss_after"][12:], rel=1e-3)
    assert rest["fast_weight_norm"] == pytest.approx(whole["fast_weight_norm"], rel=1e-3)


def test_learning_lowers_the_loss_of_a_new_model():
    record = small_model(scale=0.02).diagnostics(random_ids(4, 16))
    assert sum(record["inner_loss_after"]) < sum(record["inner_loss_before"])


def test_attention_reports_nothing_and_costs_nothing():
    model = small_model(architecture="transformer")
    model.model.embed_tokens.register_forward_pre_hook(lambda *_: pytest.fail("the model must not run"))
    assert model.diagnostics(random_ids(1, 4)) == {}
