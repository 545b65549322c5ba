"""The task second-copy: known models get known drops, and bad requests are refused."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from tttkit.analyze.intervals import over_groups
from tttkit.errors import DataError, UsageError
from tttkit.evaluate.blocks import NllBlocks
from tttkit.recall.second_copy import PASSAGE, copy_nll, measure, sample, with_second_copy

VOCABULARY = 50


class KnownModel:
    """Gives every token the chance level, unless its pair with the token before occurred within `reach` tokens."""

    name, bos_id, adds_bos, vocab_size, mini_batch_size = "known", None, False, VOCABULARY, 1
    device, can_carry, training = torch.device("cpu"), False, False

    def __init__(self, reach: int = 0, max_positions: int | None = None) -> None:
        self.reach, self.max_positions = reach, max_positions

    def bytes_per_token(self) -> int:
        return 8

    def score(self, windows, num_scored, *, head_positions=None):
        nll = torch.full((windows.shape[0], windows.shape[1] - 1), float(np.log(VOCABULARY)))
        for row, tokens in enumerate(windows.tolist()):
            last = {}
            for place, pair in enumerate(itertools.pairwise(tokens)):
                if place - last.get(pair, -len(tokens) - self.reach) <= self.reach:
                    nll[row, place] = 0.0
                last[pair] = place
        return nll[:, -num_scored:]

    def eval(self):
        return self

    def train(self, mode=True):
        return self


class Text:
    """A split of random tokens."""

    vocab_size = VOCABULARY

    def __init__(self, num_tokens: int = 2000) -> None:
        self.num_tokens = num_tokens
        self.document_ends = np.arange(100, num_tokens + 100, 100, dtype=np.uint64)
        self._tokens = np.random.default_rng(3).integers(0, VOCABULARY, num_tokens).astype(np.uint16)

    def tokens(self, start, stop):
        return self._tokens[start:stop]


@dataclasses.dataclass
class Job:
    model: KnownModel
    split: Text = dataclasses.field(default_factory=Text)
    window: int = 16
    bos: str = "never"
    facts: dict = dataclasses.field(default_factory=dict)


def test_an_oracle_knows_the_second_copy_at_every_distance():
    result = measure(Job(KnownModel(reach=10_000)), distances=[0, 40, 160], num_examples=20, seed=0)
    assert [row["second"] for row in result.rows] == [0.0, 0.0, 0.0]
    assert all(row["drop"] == row["first"] > 0 for row in result.rows)


def test_a_model_without_memory_has_no_drop():
    result = measure(Job(KnownModel(reach=-1)), distances=[0, 40], num_examples=20, seed=0)
    assert [(row["drop"], row["low"], row["high"]) for row in result.rows] == [(0.0, 0.0, 0.0)] * 2
    assert result.rows[0]["first"] == pytest.approx(np.log(VOCABULARY))


def test_the_distance_counts_the_tokens_between_the_copies():
    """A pair comes again 64 + d tokens later, so a model that looks back 64 + 40 tokens knows it up to d = 40."""
    result = measure(Job(KnownModel(reach=PASSAGE + 40)), distances=[40, 41], num_examples=20, seed=0)
    assert result.rows[0]["second"] == 0.0
    assert result.rows[1]["second"] > 1.0


def test_only_the_two_copies_are_compared():
    tokens = with_second_copy(np.arange(200)[None], 16, 30)
    assert tokens.shape == (1, 16 + 2 * PASSAGE + 30)
    np.testing.assert_array_equal(tokens[0, 16 : 16 + PASSAGE], tokens[0, -PASSAGE:])
    model = KnownModel(reach=10_000)
    first, second = copy_nll(model, tokens % VOCABULARY, 16)
    assert second == 0.0
    assert first > 0.0


def test_the_scored_tokens_of_both_copies_are_the_same_all_but_the_first():
    """The NLL of a token is its id here, so the means say which tokens are scored."""
    model = KnownModel()
    model.vocab_size, model.score = 300, lambda windows, num_scored, **_: windows[:, -num_scored:].float()
    first, second = copy_nll(model, with_second_copy(np.arange(200)[None], 16, 30), 16)
    assert first == second == np.mean(range(17, 16 + PASSAGE))


def test_a_seed_chooses_the_same_passages_and_another_seed_others():
    text = Text()
    np.testing.assert_array_equal(sample(text, 100, 8, 1)[0], sample(text, 100, 8, 1)[0])
    assert (sample(text, 100, 8, 1)[0] != sample(text, 100, 8, 2)[0]).any()


def test_a_short_split_is_refused():
    with pytest.raises(DataError, match="expected at least 107 tokens in the split, got 90"):
        sample(Text(90), 100, 8, 0)


def test_a_length_beyond_the_positions_of_the_model_is_refused():
    with pytest.raises(UsageError, match="the longest example has 184 tokens, but known has 150 positions"):
        measure(Job(KnownModel(max_positions=150)), distances=[0, 40], num_examples=4, seed=0)


def test_a_vocabulary_too_small_is_refused():
    job = Job(KnownModel())
    job.split.vocab_size = VOCABULARY + 1
    with pytest.raises(DataError, match="has 51 tokens, but the model knows 50"):
        measure(job, distances=[0], num_examples=4, seed=0)


def test_a_second_interval_is_over_the_documents_in_which_the_passages_start():
    job = Job(KnownModel(reach=PASSAGE + 40))
    job.split.document_ends = np.arange(5, 2005, 5, dtype=np.uint64)
    result = measure(job, distances=[40], num_examples=30, seed=0)
    texts, starts = sample(job.split, job.window + PASSAGE + 40, 30, 0)
    np.testing.assert_array_equal(texts[3], job.split.tokens(starts[3], starts[3] + texts.shape[1]))
    documents = ((starts + job.window) // 5).tolist()
    assert result.values["documents"] == documents
    assert result.values["num_documents"] == len(set(documents)) < 30
    intervals = over_groups(np.array(result.values["drops"]), documents)
    (row,) = result.rows
    assert (row["document_low"], row["document_high"]) == (intervals.low[0], intervals.high[0])
    assert row["document_low"] != row["low"]


def test_passages_of_one_document_have_no_interval_over_documents():
    job = Job(KnownModel())
    job.split.document_ends = np.array([2000], dtype=np.uint64)
    (row,) = measure(job, distances=[0], num_examples=4, seed=0).rows
    assert (row["document_low"], row["document_high"]) == (None, None)


def test_all_places_differ_even_if_every_place_is_needed():
    _, starts = sample(Text(120), 100, 21, seed=0)
    assert starts.tolist() == list(range(21))


def test_finished_distances_are_not_measured_again(tmp_path):
    blocks, sizes = NllBlocks.beside(tmp_path, "key"), {"distances": [0, 40], "num_examples": 20, "seed": 0}
    known = measure(Job(KnownModel(reach=PASSAGE + 20)), blocks=blocks, **sizes)
    again = measure(Job(KnownModel(reach=-1)), blocks=blocks, **sizes)
    assert again.rows == known.rows == measure(Job(KnownModel(reach=PASSAGE + 20)), **sizes).rows
    assert known.rows[0]["drop"] > 1.0 > known.rows[1]["drop"]


def test_a_bos_stands_in_front_of_every_example():
    model, read = KnownModel(), []
    model.bos_id, score = 7, model.score
    model.score = lambda windows, *rest, **more: read.append(windows.numpy()) or score(windows, *rest, **more)
    job = Job(model, bos="always")
    measure(job, distances=[40], num_examples=4, seed=0)
    texts, _ = sample(job.split, job.window + PASSAGE + 40, 4, 0)
    expected = with_second_copy(texts, job.window, 40)
    np.testing.assert_array_equal(np.concatenate(read), np.concatenate([np.full((4, 1), 7), expected], axis=1))
