"""The head's loss and its hand-written gradient equal the cross-entropy of the logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tttkit.models.head_loss import head_loss

from .small import random_ids, small_model


def draw(rows=6, width=8, vocab=131, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(vocab)
    hidden_states = (scale * torch.randn(2, rows // 2, width, generator=generator, dtype=dtype)).requires_grad_()
    weight = torch.randn(vocab, width, generator=generator, dtype=dtype, requires_grad=True)
    return hidden_states, weight, torch.randint(0, vocab, (2, rows // 2), generator=generator)


def plain(hidden_states, weight, targets):
    return functional.cross_entropy(functional.linear(hidden_states, weight).flatten(0, 1).float(), targets.flatten())


def results(function, hidden_states, weight, targets):
    loss = function(hidden_states, weight, targets)
    return [loss, *torch.autograd.grad(3 * loss, [hidden_states, weight])]


@pytest.mark.parametrize("vocab", [1, 2, 63, 64, 65, 131])
def test_loss_and_gradients_equal_the_cross_entropy(vocab):
    inputs = draw(vocab=vocab, dtype=torch.float32)
    for actual, expected in zip(results(head_loss, *inputs), results(plain, *inputs), strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-6, atol=1e-6)


def test_gradient_equals_finite_differences():
    hidden_states, weight, targets = draw(vocab=11)
    assert torch.autograd.gradcheck(lambda h, w: head_loss(h, w, targets), (hidden_states, weight))


def test_a_token_of_no_probability_has_a_finite_loss():
    """Its probability underflows in float32, but the logits still give its loss."""
    inputs = draw(dtype=torch.float32, scale=300.0)
    loss, *gradients = results(head_loss, *inputs)
    assert loss > 200
    for actual, expected in zip([loss, *gradients], results(plain, *inputs), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_nan_stays_nan():
    hidden_states, weight, targets = draw(dtype=torch.float32)
    with torch.no_grad():
        hidden_states[0, 0, 0] = torch.nan
    loss, *gradients = results(head_loss, hidden_states, weight, targets)
    assert loss.isnan()
    assert all(gradient.isnan().any() for gradient in gradients)


def test_autocast_rounds_products_only():
    inputs = draw(dtype=torch.float32, width=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, expected = results(head_loss, *inputs), results(plain, *inputs)
    assert [tensor.dtype for tensor in actual] == [torch.float32] * 3
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-6, atol=1e-6)
    for value, other in zip(actual[1:], expected[1:], strict=True):
        assert (value - other).norm() < 1e-2 * other.norm()
    assert actual[0] != head_loss(*inputs)


@pytest.mark.parametrize("tied", [True, False])
def test_loss_of_a_model(tied):
    model, ids = small_model(tie_word_embeddings=tied), random_ids(2, 9)
    hidden_states = model.hidden_states(ids[:, :-1])
    expected = functional.cross_entropy(model.head(hidden_states).flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(model.loss(hidden_states, ids[:, 1:]), expected)
