"""Examples of the synthetic tasks: the answers follow from the text before them, and from nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.config.presets import preset_values
from tttkit.data.tasks import TASKS, VOCABULARY
from tttkit.data.tasks.examples import FILLER, FIRST_WORD, SEPARATOR, SHORTEST

lengths = st.integers(SHORTEST - 1, 400)
seeds = st.integers(0, 1 << 32)


def make(task, num_examples, num_words, seed):
    return TASKS[task](num_examples, num_words, np.random.default_rng(seed))


@given(task=st.sampled_from(sorted(TASKS)), num_words=lengths, seed=seeds)
@settings(max_examples=200, deadline=None)
def test_every_answer_was_read_before_at_the_distance_that_is_given(task, num_words, seed):
    examples = make(task, 5, num_words, seed)
    assert examples.words.shape == examples.distance.shape == (5, num_words)
    assert examples.words.min() >= FILLER
    assert examples.words.max() < VOCABULARY
    assert examples.is_answer.any(axis=1).all()
    for words, distance in zip(examples.words, examples.distance, strict=True):
        (places,) = np.nonzero(distance)
        assert np.array_equal(words[places], words[places - distance[places]])
        assert (words[places] >= FIRST_WORD).all()


@given(num_words=lengths, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_each_key_of_mqar_comes_again_once_before_its_value(num_words, seed):
    for words, distance, size in zip(*vars(make("mqar", 5, num_words, seed)).values(), strict=True):
        pairs = {words[2 * pair]: words[2 * pair + 1] for pair in range(size)}
        (places,) = np.nonzero(distance)
        assert len(pairs) == len(set(pairs.values())) == len(places) == size
        assert {words[place - 1]: words[place] for place in places} == pairs
        others = np.setdiff1d(np.arange(2 * size, num_words), np.concatenate([places, places - 1]))
        assert (words[others] == FILLER).all()


def test_mqar_has_the_numbers_of_pairs_that_fit():
    assert set(make("mqar", 20, 63, 0).size) == {4, 8}
    assert set(make("mqar", 20, 1280, 0).size) == {4, 8, 16, 32, 64}


def test_gaps_of_mqar_follow_the_power_law():
    """With p(g) proportional to g^-0.99 and 4 of 248 slots, about as many gaps are in 1 … 15 as in 16 … 248."""
    examples = make("mqar", 4000, 504, 1)
    examples = type(examples)(*(x[examples.size == 4] for x in vars(examples).values()))
    _, places = np.nonzero(examples.distance)
    gaps = (places - 1 - 8) // 2 + 1
    weights = np.arange(1, 249) ** -0.99
    expected = weights[15:].sum() / weights.sum()
    # drawing four different slots moves some weight from the smallest gaps to the others
    assert expected - 0.02 < (gaps > 15).mean() < expected + 0.1


@given(num_words=lengths, seed=seeds)
@settings(max_examples=50, deadline=None)
def test_copies_follow_a_separator(num_words, seed):
    copied = make("copy", 4, num_words, seed)
    for words, size in zip(copied.words, copied.size, strict=True):
        assert np.array_equal(words[-size:], words[-2 * size - 1 : -size - 1])
        assert words[-size - 1] == words[-2 * size - 2] == SEPARATOR
    selected = make("selective-copy", 4, num_words, seed)
    for words, size in zip(selected.words, selected.size, strict=True):
        before, after = words[: -size - 1], words[-size:]
        assert np.array_equal(before[before != FILLER], after)
        assert words[-size - 1] == SEPARATOR


@given(num_words=lengths, seed=seeds)
@settings(max_examples=50, deadline=None)
def test_the_word_of_induction_is_always_followed_by_the_same_word(num_words, seed):
    examples = make("induction", 4, num_words, seed)
    for words, distance in zip(examples.words, examples.distance, strict=True):
        first = words[-2]
        (places,) = np.nonzero(words[:-1] == first)
        assert set(words[places + 1]) == {words[-1]}
        assert len(places) == 4
        assert distance[-1] == places[-1] - places[-2]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_examples_are_a_function_of_the_seed(task):
    assert np.array_equal(make(task, 3, 63, 5).words, make(task, 3, 63, 5).words)
    assert not np.array_equal(make(task, 3, 63, 5).words, make(task, 3, 63, 6).words)


def test_every_task_has_a_preset():
    for task in TASKS:
        assert preset_values(task)["data"]["source"].startswith(f"task:{task}:")
