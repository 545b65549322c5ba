"""Figures of continuations whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttkit.quality.text_metrics import distinct_n, ends_in_loop, rep_n


def ids(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def test_a_text_of_distinct_tokens_repeats_nothing():
    row = ids(list(range(20)))
    assert [rep_n(row, n)[0] for n in (2, 3, 4)] == [0.0, 0.0, 0.0]
    assert distinct_n(row, 2)[0] == 1.0
    assert ends_in_loop(row)[0] == 0.0


def test_a_loop_repeats_nearly_everything():
    row = ids([1, 2] * 10)
    assert rep_n(row, 2)[0] == pytest.approx(1 - 2 / 19)
    assert ends_in_loop(row)[0] == 1.0


@pytest.mark.parametrize(
    ("tail", "loops"),
    [
        ([7, 8, 9] * 3, 1.0), ([7, 8, 9] * 2, 0.0), ([7] * 6, 1.0), ([7] * 5, 0.0), ([*[7, 8] * 3, 9], 0.0),
    ],
)  # fmt: skip
def test_a_loop_is_a_phrase_of_two_tokens_or_more_that_ends_the_text_three_times(tail, loops):
    assert ends_in_loop(ids([*range(100, 112), *tail]))[0] == loops


@given(st.integers(2, 6), st.integers(8, 20), st.integers(1, 3), st.integers(0, 1000))
def test_the_mean_of_what_texts_add_to_distinct_n_is_distinct_n(rows, length, n, seed):
    texts = np.random.default_rng(seed).integers(0, 6, (rows, length))
    grams = [tuple(row[i : i + n]) for row in texts.tolist() for i in range(length - n + 1)]
    assert distinct_n(texts, n).mean() == pytest.approx(len(set(grams)) / len(grams))


def test_a_text_that_is_nothing_but_a_phrase_three_times_is_a_loop():
    assert ends_in_loop(ids([7, 8, 9] * 3))[0] == 1.0


def test_what_a_text_adds_is_the_jackknife_of_the_ratio():
    """Without the second text, whose bigrams are its own, 1 of 4 bigrams is unique; without another one, 3 of 4 are."""
    texts = ids([1, 1, 1], [2, 3, 4], [1, 1, 1])
    pseudo = 3 * 3 / 6 - 2 * np.array([3 / 4, 1 / 4, 3 / 4])
    np.testing.assert_allclose(distinct_n(texts, 2), pseudo - pseudo.mean() + 3 / 6)


def test_equal_texts_share_their_n_grams():
    """Ten times the same text of distinct tokens: a tenth of the n-grams of all texts is unique."""
    texts = np.tile(np.arange(12), (10, 1))
    assert distinct_n(texts, 2).mean() == pytest.approx(0.1)
    assert rep_n(texts, 2).mean() == 0.0
