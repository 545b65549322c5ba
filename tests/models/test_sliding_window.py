"""Attention in blocks over a long text equals attention with a mask over all pairs."""

from __future__ import annotations

import pytest
import torch

from tttkit.models.transformer import CausalAttention

from .small import random_ids, small_model


def draw(length, cached):
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(2, 2, size, 4, dtype=torch.float64, generator=generator, requires_grad=True)
        for size in (length, length + cached, length + cached)
    ]


@pytest.mark.parametrize("window", [1, 6])
@pytest.mark.parametrize("cached", [0, 3, 5])
@pytest.mark.parametrize("length", [49, 54, 71])
def test_blocks_equal_the_mask(window, cached, length):
    layer = small_model(architecture="sw", sliding_window=window).model.layers[0].seq_modeling_block
    cached = min(cached, window - 1)
    inputs = draw(length, cached)
    actual, expected = (attend(*inputs) for attend in (layer._attend, lambda *x: CausalAttention._attend(layer, *x)))
    torch.testing.assert_close(actual, expected)
    direction = torch.randn(actual.shape, dtype=actual.dtype, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((read * direction).sum(), inputs) for read in (actual, expected)]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("cut", [1, 3, 50])
def test_a_long_text_from_a_cache_equals_one_pass(cut):
    model, ids = small_model(architecture="sw", sliding_window=6), random_ids(2, 110)
    first, state = model.step(ids[:, :cut], model.initial_state(2))
    second, state = model.step(ids[:, cut:], state)
    torch.testing.assert_close(torch.cat((first, second), dim=1), model(ids), rtol=0, atol=1e-5)
    assert state.layers[0]["keys"].shape[2] == 5
