"""Effective memory: a model that uses exactly t tokens has an effective memory of t."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.diagnose.known_models import VOCABULARY, LastTokens
from tests.models.small import small_model
from tttkit.diagnose import effective_memory as module
from tttkit.diagnose.effective_memory import (
    TOLERANCE,
    effective_memory,
    grid,
    measure_position,
    memory_interval,
    next_token_probabilities,
    total_variation,
)

TOKENS = np.random.default_rng(0).integers(1, VOCABULARY, (8, 300))


def variations(model, position, mini_batch=1):
    whole = next_token_probabilities(model, TOKENS[:, :position], None)

    def vary(last):
        return total_variation(whole, next_token_probabilities(model, TOKENS[:, position - last : position], None))

    return measure_position(position, mini_batch, vary, lambda _: None)


@pytest.mark.parametrize("reach", [1, 2, 5, 16, 37, 97, 150, 199])
def test_a_model_that_uses_t_tokens_has_an_effective_memory_of_t(reach):
    measured = variations(LastTokens(reach), 200)
    assert effective_memory(measured) == reach
    assert memory_interval(measured) == (reach, reach)


def test_memory_ends_at_the_start_of_the_text():
    assert effective_memory(variations(LastTokens(150), 100)) == 100


def test_the_grid_keeps_slots_of_inner_mini_batches():
    assert grid(200, 1) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192]
    sizes = grid(200, 16)
    assert all(size % 16 == 0 for size in sizes if size >= 16)
    assert sizes[:7] == [1, 2, 3, 4, 6, 8, 12]
    assert all(size % 16 == 0 for size in variations(LastTokens(100), 192, 16) if size >= 16)


def test_total_variation_is_half_the_sum_of_differences():
    first, second = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), np.array([[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])
    assert total_variation(first, second).tolist() == [0.25, 1.0]


def test_a_mean_below_the_tolerance_between_two_above_it_does_not_count():
    measured = {size: np.full(4, mean) for size, mean in ((1, 0.5), (2, 0.0), (4, TOLERANCE + 0.01), (8, 0.0))}
    assert effective_memory(measured) == 8


def test_a_single_text_has_no_interval():
    assert memory_interval({1: np.array([0.5]), 2: np.array([0.0])}) is None


@pytest.mark.parametrize(("count", "low"), [(3, 10), (4, 10), (5, 50)])
def test_the_interval_of_the_memory_is_that_of_95_percent_of_the_resamples(count, low):
    """Some of ten texts need 50 tokens, the others 10. If at most one of the former is drawn, the memory is 10: in 14 %
    of the resamples for three such texts, in 4 % for four and in 1 % for five."""
    reach = np.array([50] * count + [10] * (10 - count))
    measured = {size: (size < reach).astype(float) for size in (1, 10, 50)}
    assert effective_memory(measured) == 50
    assert memory_interval(measured) == (low, 50)


def test_a_mean_total_variation_of_a_tenth_counts_as_the_same_prediction_and_a_higher_one_does_not():
    assert effective_memory({1: np.full(4, 0.5), 2: np.full(4, 0.1), 4: np.zeros(4)}) == 2
    assert effective_memory({1: np.full(4, 0.5), 2: np.full(4, 0.11), 4: np.zeros(4)}) == 4


def test_a_bos_stands_in_front_of_every_text():
    texts = TOKENS[:, :3]
    with_bos = next_token_probabilities(LastTokens(100), texts, 7)
    assert with_bos.argmax(axis=1).tolist() == ((texts.sum(axis=1) + 7) % VOCABULARY).tolist()
    last = next_token_probabilities(LastTokens(1), texts, 7)
    assert last.argmax(axis=1).tolist() == texts[:, -1].tolist()


def test_a_text_that_is_read_in_segments_has_the_prediction_of_one_pass(monkeypatch):
    model = small_model().eval()
    texts = np.random.default_rng(0).integers(0, model.vocab_size, (3, 16))
    with torch.no_grad():
        logits, _ = model.next_logits(torch.from_numpy(texts), model.initial_state(3))
    monkeypatch.setattr(module, "batch_tokens", lambda *_: 4)
    np.testing.assert_allclose(next_token_probabilities(model, texts, None), logits.softmax(-1), rtol=1e-4)
