"""Key tokens: only those that need a context longer than the short one, and that the evaluator then knows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.diagnose.known_models import Rereader
from tttkit.analyze.intervals import bootstrap
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


class Priced(Rereader):
    """As the model above, with other costs in nats of a repeat and of any other token."""

    def __init__(self, repeat, other):
        self.repeat, self.other = repeat, other

    def score(self, windows, num_scored, *, head_positions=None):
        nll = super().score(windows, num_scored, head_positions=head_positions)
        return nll.where(nll > 1, self.repeat).where(nll < 1, self.other)


@pytest.mark.parametrize(("repeat", "other", "is_key"), [(2.0, 4.0, True), (2.1, 6.0, False), (0.5, 2.4, False)])
def test_a_key_token_costs_at_most_two_nats_and_at_least_two_more_without_the_long_context(repeat, other, is_key):
    chosen = choose_key_tokens(Priced(repeat, other), text((20, 90)), WINDOW, "never", lambda _: None)
    assert np.flatnonzero(chosen[0]).tolist() == ([89] if is_key else [])


def test_the_interval_of_texts_with_equally_many_tokens_is_that_of_their_means():
    nll = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    mean, expected = masked_mean(nll, np.ones((20, 4), dtype=bool)), bootstrap(nll.mean(axis=1)[:, None])
    assert (mean.low, mean.high) == pytest.approx((expected.low[0], expected.high[0]), abs=1e-6)


def test_tokens_that_were_not_read_count_neither_as_tokens_nor_as_texts():
    nll, mask = np.ones((6, 3), dtype=np.float32), np.ones((6, 3), dtype=bool)
    nll[0], nll[1, 0] = np.nan, np.nan
    mean = masked_mean(nll, mask)
    assert (mean.value, mean.count) == (1.0, 14)
