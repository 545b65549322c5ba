"""Key tokens: only those that need a context longer than the short one, and that the evaluator then knows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.diagnose.known_models import Rereader
from tttkit.diagnose.key_tokens import choose_key_tokens, masked_mean, short_nll

WINDOW = 16


def text(*repeats: tuple[int, int]) -> np.ndarray:
    """Return distinct tokens (1, 121), in which each `later` place holds the token of an `earlier` one."""
    tokens = np.arange(121)[None].copy()
    for earlier, later in repeats:
        tokens[0, later] = tokens[0, earlier]
    return tokens


def test_a_token_that_only_the_long_context_explains_is_a_key_token():
    """A repeat after 70 tokens needs more than W = 16 tokens, one after 5 does not; NLL at i is that of token i + 1."""
    tokens = text((20, 90), (50, 55), (3, 8))
    is_key = choose_key_tokens(Rereader(), tokens, WINDOW, "never", lambda _: None)
    assert np.flatnonzero(is_key[0]).tolist() == [89]


def test_no_token_within_the_first_window_is_a_key_token():
    is_key = choose_key_tokens(Rereader(), text((0, 14)), WINDOW, "never", lambda _: None)
    assert not is_key.any()


def test_the_short_context_holds_three_quarters_of_a_window_at_least():
    repeats = [(place, place + 11) for place in range(20, 100, 20)]
    nll = short_nll(Rereader(), text(*repeats), WINDOW, "never", lambda _: None)
    assert all(nll[0, later - 1] == 0.5 for _, later in repeats)
    far = short_nll(Rereader(), text(*((place, place + WINDOW + 1) for place in range(20, 100, 20))), WINDOW, "never",
                    lambda _: None)  # fmt: skip
    assert (far[0, WINDOW:] == 5.0).all()


def test_the_mean_is_over_tokens_and_its_interval_over_texts():
    nll = np.array([[1.0, 1.0, 1.0], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]], dtype=np.float32)
    mask = np.array([[True, True, True], [True, False, False], [False, False, False]])
    mean = masked_mean(np.tile(nll, (4, 1)), np.tile(mask, (4, 1)))
    assert (mean.value, mean.count) == (1.5, 16)
    assert mean.low < 1.5 < mean.high


def test_fewer_than_five_texts_with_such_tokens_give_no_interval():
    nll = np.random.default_rng(0).random((9, 3)).astype(np.float32)
    for count, known in ((4, False), (5, True)):
        mask = np.arange(9)[:, None] < np.full(3, count)
        assert np.isfinite(masked_mean(nll, mask).low) == known


def test_without_tokens_or_from_one_text_there_is_no_interval():
    nll = np.ones((2, 3), dtype=np.float32)
    none = masked_mean(nll, np.zeros((2, 3), dtype=bool))
    assert np.isnan(none.value)
    assert none.count == 0
    one = masked_mean(nll, np.array([[True, True, True], [False] * 3]))
    assert one.value == pytest.approx(1.0)
    assert np.isnan(one.low)


class Surprised(Rereader):
    """As the model above, but a repeat still costs 3 nats where any other token costs 6."""

    def score(self, windows, num_scored, *, head_positions=None):
        return super().score(windows, num_scored, head_positions=head_positions) * 0.6667 + 2.6667


def test_a_token_that_the_evaluator_does_not_know_with_the_long_context_is_no_key_token():
    assert not choose_key_tokens(Surprised(), text((20, 90)), WINDOW, "never", lambda _: None).any()
