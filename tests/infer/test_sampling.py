"""The distribution of the next token, and the draws from it."""

from __future__ import annotations

import pytest
import torch

from tttkit.infer.sampling import Draws, Sampling, probabilities

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0]])


def test_temperature_divides_the_logits():
    torch.testing.assert_close(
        probabilities(LOGITS, Sampling(temperature=0.5)), (2 * LOGITS).double().softmax(-1), rtol=1e-12, atol=0
    )
    assert probabilities(LOGITS, Sampling(temperature=0)).tolist() == [[1, 0, 0, 0]]


def test_top_k_keeps_the_likeliest():
    distribution = probabilities(LOGITS, Sampling(top_k=2))
    torch.testing.assert_close(distribution[0, :2], LOGITS[0, :2].double().softmax(-1))
    assert distribution[0, 2:].tolist() == [0, 0]
    assert torch.equal(probabilities(LOGITS, Sampling(top_k=9)), probabilities(LOGITS, Sampling()))


@pytest.mark.parametrize(("top_p", "kept"), [(0.1, 1), (0.64, 1), (0.65, 2), (0.9, 3), (0.999, 4), (1.0, 4)])
def test_top_p_keeps_the_likeliest_that_reach_it(top_p, kept):
    """The likeliest tokens have 0.644, 0.237, 0.087, 0.032 here."""
    distribution = probabilities(LOGITS.flip(-1), Sampling(top_p=top_p)).flip(-1)
    torch.testing.assert_close(distribution[0, :kept], LOGITS[0, :kept].double().softmax(-1))
    assert distribution[0, kept:].sum() == 0
    assert probabilities(torch.zeros(1, 2), Sampling(top_p=0.5)).tolist() == [[1, 0]], "reaching top_p is enough"


def test_draws_follow_the_distribution():
    wanted = torch.tensor([[0.5, 0.0, 0.3, 0.2]], dtype=torch.float64)
    draws = Draws(0, 1)
    counts = torch.bincount(torch.tensor([draws.pick(wanted, [0])[0] for _ in range(4000)]), minlength=4)
    assert counts[1] == 0
    assert (counts / 4000 - wanted[0]).abs().max() < 0.03  # 3.8 standard deviations


@pytest.mark.parametrize("level", [0.0, 1.0 - 2**-53])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(level, monkeypatch):
    draws = Draws(0, 1)
    monkeypatch.setattr(draws._streams[0], "random", lambda: level)
    assert draws.pick(torch.tensor([[0.0, 0.3, 0.7 - 1e-9, 0.0]], dtype=torch.float64), [0]) == [1 if level == 0 else 2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a finite number of at least 0, got -1.0"),
        ({"temperature": float("nan")}, "got nan"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**fields)


def test_the_highest_random_number_draws_a_token_if_rounding_lowers_the_total(monkeypatch):
    distribution = torch.full((1, 10), 0.1, dtype=torch.float64)
    assert distribution.cumsum(-1)[0, -1] == 1 - 2**-53
    draws = Draws(0, 1)
    monkeypatch.setattr(draws._streams[0], "random", lambda: 1 - 2**-53)
    assert draws.pick(distribution, [0]) == [9]
