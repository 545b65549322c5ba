"""Synthetic tasks: an oracle scores 1, a random model scores chance, and attention with known weights recalls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.config.sections import SHORTEST_WINDOWS
from tttkit.data.synthetic.tasks import TASKS, make_examples, trained_sizes
from tttkit.data.synthetic.vocabulary import ASK, FIRST_VALUE, NUM_VALUES, VOCAB_SIZE, is_answer
from tttkit.errors import DataError, UsageError
from tttkit.evaluate.blocks import NllBlocks
from tttkit.models.scoring import is_predicted
from tttkit.recall.answers import AnswerTask, _distance_row, measure_answers


class KnownModel:
    """Predicts as `logits` says: a function of the ids (N, L) that returns (N, L, V)."""

    name, bos_id, adds_bos, mini_batch_size = "known", None, False, 1
    device, can_carry, training = torch.device("cpu"), False, False

    def __init__(self, logits, vocab_size: int = VOCAB_SIZE, max_positions: int | None = None) -> None:
        self.logits, self.vocab_size, self.max_positions = logits, vocab_size, max_positions

    def bytes_per_token(self) -> int:
        return 8

    def score(self, windows, num_scored, *, head_positions=None, measure):
        logits = self.logits(windows[:, :-1], windows[:, 1:])
        return measure(logits.flatten(0, 1), windows[:, 1:].flatten()).view(len(windows), -1)[:, -num_scored:]

    def eval(self):
        return self

    def train(self, mode=True):
        return self


def oracle(ids, targets):
    return torch.nn.functional.one_hot(targets, VOCAB_SIZE).float()


def a_random_value(ids, targets):
    drawn = torch.randint(FIRST_VALUE, FIRST_VALUE + NUM_VALUES, targets.shape, generator=torch.manual_seed(0))
    return torch.nn.functional.one_hot(drawn, VOCAB_SIZE).float()


def induction_head(ids, targets, reach: int = 100_000):
    """Full attention by hand: attend to tokens whose predecessor equals the present token, and copy the first."""
    before = torch.nn.functional.pad(ids, (1, 0), value=-1)[:, :-1]
    distance = torch.arange(ids.shape[1])[:, None] - torch.arange(ids.shape[1])
    matches = (ids[:, :, None] == before[:, None, :]) & (distance >= 0) & (distance < reach)
    return torch.einsum("nqk,nkv->nqv", matches.float(), torch.nn.functional.one_hot(ids, VOCAB_SIZE).float())


def task(name, **values):
    return AnswerTask(name=name, window=32, **{"lengths": [64, 128], "num_examples": 8, **values})


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(TASKS)), extra=st.integers(0, 60), seed=st.integers(0, 1000), data=st.data(),
)  # fmt: skip
def test_the_ids_alone_tell_the_answers_and_every_answer_was_given_at_its_distance(name, extra, seed, data):
    size = data.draw(st.sampled_from(TASKS[name].sizes))
    length = TASKS[name].smallest(size) + extra
    examples = make_examples(name, 3, length, size, seed)
    tokens, distances = examples
    assert tokens.shape == distances.shape == (3, length)
    assert 0 <= tokens.min() <= tokens.max() < VOCAB_SIZE
    with_next = torch.from_numpy(np.concatenate([tokens, np.full((3, 1), FIRST_VALUE)], axis=1))
    answers = is_answer(with_next).numpy()[:, :-1]
    np.testing.assert_array_equal(answers, distances[:, 1:] > 0)
    assert answers.any(axis=1).all()
    rows, places = np.nonzero(distances)
    np.testing.assert_array_equal(tokens[rows, places], tokens[rows, places - distances[rows, places]])
    np.testing.assert_array_equal((tokens == ASK).sum(axis=1), 1)
    np.testing.assert_array_equal(tokens, make_examples(name, 3, length, size, seed).tokens)


def test_the_keys_of_mqar_differ_and_each_is_asked_about_once():
    tokens = make_examples("mqar", 5, 128, 16, seed=0).tokens
    for row in tokens:
        asked = row[33:-1]
        assert len(set(row[0:32:2])) == 16
        assert sorted(asked[np.isin(asked, row[0:32:2])]) == sorted(row[0:32:2])


def test_most_questions_of_mqar_come_soon_as_the_power_law_says():
    distances = make_examples("mqar", 400, 1280, 4, seed=0).distances
    nearest = distances[distances > 0].reshape(400, 4)
    assert np.median(nearest) < 200 < nearest.max()


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_configuration_knows_the_shortest_window_of_every_task(name):
    entry = TASKS[name]
    assert SHORTEST_WINDOWS[name] == entry.smallest(entry.sizes[0])
    make_examples(name, 1, SHORTEST_WINDOWS[name], entry.sizes[0], seed=0)
    with pytest.raises(ValueError, match="at least"):
        make_examples(name, 1, SHORTEST_WINDOWS[name] - 1, entry.sizes[0], seed=0)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_an_oracle_scores_one(name):
    rows, accuracies = measure_answers(KnownModel(oracle), task(name))
    assert all((row.accuracy, row.exact, row.low) == (1.0, 1.0, 1.0) for row in rows)
    assert accuracies.shape == (8, len(rows))


def test_a_random_model_scores_chance():
    rows, _ = measure_answers(KnownModel(a_random_value), task("copy", lengths=[256], num_examples=32))
    assert rows[0].accuracy == pytest.approx(1 / NUM_VALUES, abs=0.003)
    assert rows[0].exact == 0.0


def test_intervals_of_few_examples_are_inside_0_and_1():
    def knows_one_row(ids, targets):
        logits = oracle(ids, targets)
        logits[1:] = logits[1:].roll(1, dims=-1)
        return logits

    rows, accuracies = measure_answers(KnownModel(knows_one_row), task("mqar", lengths=[64], sizes=[4]))
    assert accuracies[:, 0].tolist() == [1.0] + [0.0] * 7
    parts = [rows[0], *rows[0].by_distance]
    assert all(0.0 == part.low < part.accuracy < part.high <= 1.0 for part in parts if part.num_examples == 8)
    assert (rows[0].exact_low, rows[0].exact) == (0.0, 1 / 8)


def test_full_attention_solves_mqar_at_any_gap_inside_its_window():
    rows, _ = measure_answers(KnownModel(induction_head), task("mqar", lengths=[64, 256], sizes=[4, 8]))
    assert all(row.exact == 1.0 for row in rows)
    assert all(part.accuracy == 1.0 for row in rows for part in row.by_distance)


def test_attention_with_a_short_reach_recalls_nothing_beyond_it():
    def short(ids, targets):
        return induction_head(ids, targets, reach=32)

    rows, _ = measure_answers(KnownModel(short), task("mqar", lengths=[256], sizes=[8], num_examples=32))
    by_first = {part.first: part.accuracy for part in rows[0].by_distance}
    assert by_first[16] == 1.0
    assert by_first[64] == by_first[128] == 0.0


def test_windowed_contexts_lose_what_lies_before_the_window():
    rows, _ = measure_answers(
        KnownModel(induction_head), task("mqar", lengths=[128], sizes=[8], contexts=("full", "sw"))
    )
    full, window = rows
    assert full.accuracy == 1.0
    assert window.accuracy < 0.9


def test_a_window_holds_exactly_w_tokens():
    """The key stands one token before the value: a distance of 31 tokens fits in W = 32, one of 32 does not."""
    chosen = task("mqar", lengths=[256], sizes=[8], contexts=("sw", "full"), num_examples=32)
    window, full = measure_answers(KnownModel(induction_head), chosen)[0]
    by_first = {part.first: part.accuracy for part in window.by_distance}
    assert by_first[16] == 1.0
    assert by_first[32] == by_first[64] == 0.0
    assert full.accuracy == 1.0


def test_the_accuracy_at_a_distance_is_the_mean_over_examples_that_have_such_an_answer():
    hits = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, np.nan, np.nan, 1.0], [np.nan, np.nan, np.nan, 0.0]])
    chosen = np.isfinite(hits) & np.array([True, True, True, False])
    row = _distance_row(3, hits, chosen)
    assert (row.first, row.last, row.num_examples, row.accuracy) == (8, 15, 2, 0.5)


def test_another_seed_makes_other_examples():
    def short(ids, targets):
        return induction_head(ids, targets, reach=32)

    first, again, other = (
        measure_answers(KnownModel(short), task("mqar", lengths=[256], sizes=[8], seed=seed))[1] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_bos_stands_in_front_of_every_example():
    first = []

    def keep(ids, targets):
        first.append(ids[:, 0].tolist())
        return oracle(ids, targets)

    model = KnownModel(keep)
    model.bos_id = 5
    rows, _ = measure_answers(model, task("copy", lengths=[64], bos="always"))
    assert [token for part in first for token in part] == [5] * 8
    assert rows[0].accuracy == 1.0


def test_a_tie_goes_to_the_first_of_the_highest_logits():
    logits = torch.tensor([[0.0, 2.0, 2.0]])
    assert is_predicted(logits, torch.tensor([1])).tolist() == [1.0]
    assert is_predicted(logits, torch.tensor([2])).tolist() == [0.0]


def test_finished_settings_are_not_measured_again(tmp_path):
    blocks = NllBlocks.beside(tmp_path, "key")
    first, _ = measure_answers(KnownModel(oracle), task("induction"), blocks=blocks)
    again, _ = measure_answers(KnownModel(a_random_value), task("induction"), blocks=blocks)
    assert [row.accuracy for row in again] == [row.accuracy for row in first] == [1.0, 1.0]


def test_every_setting_has_its_own_block(tmp_path):
    chosen = task("mqar", sizes=[4, 8], contexts=("full", "sw"))
    blocks = NllBlocks.beside(tmp_path, "key")
    rows, accuracies = measure_answers(KnownModel(induction_head), chosen, blocks=blocks)
    np.testing.assert_array_equal(accuracies, measure_answers(KnownModel(induction_head), chosen)[1])
    assert len({row.accuracy for row in rows}) > 2


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match="mqar has 1,283 tokens, but known knows 50"):
        measure_answers(KnownModel(oracle, vocab_size=50), task("mqar"))
    with pytest.raises(UsageError, match="the longest example has 128 tokens, but known reads at most 100"):
        measure_answers(KnownModel(oracle, max_positions=100), task("mqar"))
    with pytest.raises(UsageError, match="mqar needs examples of at least 258 tokens, got 128"):
        measure_answers(KnownModel(oracle), task("mqar", sizes=[64]))
    large = KnownModel(oracle)
    large.mini_batch_size = 33
    with pytest.raises(
        UsageError, match="sw_aligned needs a window of at least 33 tokens, one inner mini-batch, got 32"
    ):
        measure_answers(large, task("mqar", contexts=("sw_aligned",)))
    with pytest.raises(UsageError, match="unknown synthetic task `mqr`"):
        measure_answers(KnownModel(oracle), task("mqr"))
    with pytest.raises(UsageError, match="task:mqar needs a window of at least 6 tokens, got 5"):
        trained_sizes("mqar", 5)


def test_what_does_not_fit_in_a_length_is_named_with_the_tokens_that_it_needs():
    chosen = task("mqar", lengths=[1280, 66, 64], sizes=[32, 4, 16])
    assert chosen.left_out() == {
        "16 items at 64 tokens": "an example needs at least 66 tokens",
        "32 items at 64 and 66 tokens": "an example needs at least 130 tokens",
    }
    measured = {(setting.length, setting.size) for setting in chosen.settings()}
    assert measured == {(64, 4), (66, 4), (66, 16), (1280, 4), (1280, 16), (1280, 32)}
    assert task("induction", lengths=[5, 64]).left_out() == {"1 item at 5 tokens": "an example needs at least 6 tokens"}
    assert task("copy").left_out() == {}


def test_mqar_is_trained_in_few_pairs_and_measured_in_more():
    assert trained_sizes("mqar", 64) == [1, 2, 4, 8]
    assert trained_sizes("mqar", 16) == [1, 2]
    assert max(TASKS["mqar"].sizes) == 64
