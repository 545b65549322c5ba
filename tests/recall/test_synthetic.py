"""Synthetic tasks: an oracle scores 1, a random model scores chance, and a model without the words is refused."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch

from tests.training import train
from tttkit.data.tasks import TASKS, VOCABULARY
from tttkit.errors import UsageError
from tttkit.recall.synthetic import answers, difference, measure


class Model:
    """Predicts what `choose` says of the words up to each position."""

    name, bos_id, adds_bos, vocab_size, mini_batch_size = "known", None, False, VOCABULARY, 1
    device, can_carry, training, max_positions = torch.device("cpu"), False, False, None

    def __init__(self, choose):
        self.choose = choose

    def bytes_per_token(self):
        return 1 << 20  # so that examples come in several batches

    def predict(self, input_ids, num_scored, *, head_positions=None):
        rows = [[self.choose(row[: end + 1]) for end in range(len(row))] for row in input_ids.tolist()]
        return torch.tensor(rows)[:, -num_scored:]

    def eval(self):
        return self

    def train(self, mode=True):
        return self


@dataclasses.dataclass
class Split:
    vocab_size: int = VOCABULARY


@dataclasses.dataclass
class Job:
    model: Model
    split: Split = dataclasses.field(default_factory=Split)
    window: int = 64
    facts: dict = dataclasses.field(default_factory=lambda: {"path": "known"})


def induce(words):
    """Return the word that followed the present word the last time, else the first word."""
    earlier = [place for place, word in enumerate(words[:-1]) if word == words[-1]]
    return words[earlier[-1] + 1] if earlier else words[0]


def select(words):
    """Return the next of the words before the separator that are no filler."""
    if 2 not in words:
        return 0
    place = words.index(2)
    selected = [word for word in words[:place] if word > 2]
    return selected[min(len(words) - place - 1, len(selected) - 1)]


def draw(words):
    return int(np.random.default_rng(words).integers(VOCABULARY))


def forget(words, reach=40):
    """Return what `induce` says of the last words only."""
    return induce(words[-reach:])


@pytest.mark.parametrize("task", sorted(TASKS))
def test_an_oracle_scores_one_and_a_random_model_scores_chance(task):
    lengths = [40, 130]
    oracle = measure(
        Job(Model(select if task == "selective-copy" else induce)), task, lengths=lengths, num_examples=8, seed=0
    )
    assert {row.length for row in oracle.rows} == set(lengths)
    assert all((row.accuracy, row.low, row.high, row.exact) == (1, 1, 1, 1) for row in oracle.rows)
    assert all(row.accuracy == 1 for row in oracle.distances)
    chance = measure(Job(Model(draw)), task, lengths=lengths, num_examples=8, seed=0)
    assert all(row.accuracy < 0.1 for row in chance.rows if row.size is None)
    (short, paired, low, high), _ = difference(chance, oracle)
    assert (short, paired) == (40, pytest.approx(1 - chance.rows[0].accuracy))
    assert low <= paired <= high <= 1


def test_a_model_that_forgets_knows_the_near_answers_only():
    result = measure(Job(Model(forget)), "mqar", lengths=[256], num_examples=40, seed=1)
    by_distance = {row.distance: row.accuracy for row in result.distances}
    assert by_distance[32] == 1
    assert by_distance[128] < 0.1
    assert by_distance[256] < 0.1
    whole = next(row for row in result.rows if row.size is None)
    assert whole.accuracy == pytest.approx(np.mean(result.scores[256]))
    assert {row.size for row in result.rows} == {None, 4, 8, 16, 32}
    sizes = [row.accuracy for row in result.rows if row.size]
    assert sizes == sorted(sizes, reverse=True), "more pairs are further away"


def test_equal_seeds_ask_equal_questions():
    first, again, other = (
        measure(Job(Model(forget)), "induction", lengths=[130], num_examples=30, seed=seed).to_dict()
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["scores"] != other["scores"]


def test_models_that_cannot_answer_are_refused():
    def ask(job, length=64):
        return measure(job, "mqar", lengths=[length], num_examples=4, seed=0)

    with pytest.raises(UsageError, match="known was not trained on the words of the synthetic tasks"):
        ask(Job(Model(induce), Split(500)))
    with pytest.raises(UsageError, match="examples need at least 16 tokens, got --length 8"):
        ask(Job(Model(induce)), 8)
    short = Model(induce)
    short.max_positions = 32
    with pytest.raises(UsageError, match="the longest example has 64 tokens, but known has 32 positions"):
        ask(Job(short))


@pytest.mark.skipif("TTTKIT_SLOW_TESTS" not in os.environ, reason="trains for minutes; set TTTKIT_SLOW_TESTS=1")
def test_full_attention_learns_mqar_at_every_gap_inside_its_window(tmp_path):
    values = {
        "preset": "mqar", "model": {"architecture": "transformer"},
        "evaluation": {"num_checkpoints": 1}, "early_stopping": {"enabled": False},
    }  # fmt: skip
    run = train(values, tmp_path / "run").run
    from tttkit.models import load_model

    examples = TASKS["mqar"](200, 64, np.random.default_rng(0))
    right = answers(load_model(run.final_model), examples)
    assert right.sum() / examples.is_answer.sum() > 0.99
