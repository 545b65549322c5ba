"""Questions about a text: an oracle finds all, a random model scores chance, and the NLL is that of scoring."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.models.small import small_model
from tttkit.data import open_split
from tttkit.data.text_tasks.examples import shortest_length
from tttkit.data.text_tasks.questions import TASK_PARTS, question_of
from tttkit.data.text_tasks.words import WORDS
from tttkit.errors import NumericalError, UsageError
from tttkit.evaluate.blocks import NllBlocks
from tttkit.evaluate.nll import token_nll
from tttkit.recall import questions
from tttkit.recall.questions import Asker, QuestionTask, ask, share_found

LENGTHS = {"passkey": [80, 160], "ruler": [320]}


class State(SimpleNamespace):
    def forked(self):
        return State(ids=self.ids)


class KnownModel:
    """Predicts the token that `choose` returns for the ids of a row that were read, with nearly all probability."""

    name, bos_id, adds_bos, can_carry = "known", None, False, False
    device = torch.device("cpu")

    def __init__(self, vocab_size, choose, max_positions=None):
        self.vocab_size, self.choose, self.max_positions = vocab_size, choose, max_positions

    def initial_state(self, batch_size):
        return State(ids=torch.zeros((batch_size, 0), dtype=torch.long))

    def next_logits(self, ids, state):
        read = torch.cat([state.ids, ids], dim=1)
        return torch.stack([self.choose(row.tolist()) for row in read]), State(ids=read)


@pytest.fixture
def split(tiny_data):
    return open_split(tiny_data, "validation")


def job(split, choose, **values):
    model = KnownModel(split.vocab_size, choose, **values)
    return SimpleNamespace(model=model, split=split, window=16, bos="never", facts={})


def uniform(split):
    return lambda read: torch.zeros(split.vocab_size)


def task(name, **values):
    return QuestionTask(**{"name": name, "lengths": LENGTHS[name], "num_examples": 4, **values})


def oracle(split, name):
    """Return the function that knows all answers by their prompts."""
    asker = Asker(job(split, uniform(split)), task(name))
    known = {}
    for setting in asker.settings:
        examples = asker._examples(setting)
        for prompt, answer in zip(examples.prompts.tolist(), examples.answers, strict=True):
            for place, token in enumerate(answer):
                known[tuple(prompt + answer[:place])] = token

    def choose(read):
        logits = torch.zeros(split.vocab_size)
        logits[known.get(tuple(read), split.eos_id)] = 50.0
        return logits

    return choose


@pytest.mark.parametrize("name", ["passkey", "ruler"])
def test_an_oracle_finds_everything(split, name):
    result = Asker(job(split, oracle(split, name)), task(name)).run()
    assert all((row["found"], row["found_low"]) == (1.0, 1.0) for row in result.rows)
    assert all(row["nll"] < 1e-6 for row in result.rows)
    places = {(row["part"], row["length"], row["depth"]) for row in result.rows}
    if name == "passkey":
        assert places == {("passkey", length, depth) for length in (80, 160) for depth in (0.0, 0.25, 0.5, 0.75, 1.0)}
    else:
        parts = ("needle", "multi-key", "variable-tracking", "common-words", "frequent-words")
        assert places == {(part, 320, None) for part in parts}
    assert np.shape(result.values["nlls"]) == np.shape(result.values["found"]) == (4, len(result.rows))


@pytest.mark.parametrize("name", ["passkey", "ruler"])
def test_a_model_that_knows_nothing_has_the_nll_of_chance_and_finds_nothing(split, name):
    asker = Asker(job(split, uniform(split)), task(name))
    result = asker.run()
    for row, setting, nlls in zip(result.rows, asker.settings, np.transpose(result.values["nlls"]), strict=True):
        examples = asker._examples(setting)
        counts = [len(ids) / len(r) for ids, r in zip(examples.answers, examples.references, strict=True)]
        np.testing.assert_allclose(nlls, np.log(split.vocab_size) * np.array(counts))
        assert row["nll"] == pytest.approx(np.mean(nlls))
        assert row["low"] <= row["nll"] <= row["high"]
        assert row["found"] == 0.0


def test_one_word_of_the_list_drawn_at_random_finds_the_share_of_chance():
    """Each of 4 right words is the drawn one of 64 with probability 1/64."""
    random = np.random.default_rng(0)
    questions = [question_of("common-words", 0, index) for index in range(2000)]
    shares = [share_found(f" {random.choice(WORDS)}", question.references) for question in questions]
    assert np.mean(shares) == pytest.approx(1 / len(WORDS), abs=0.004)


def test_a_reference_counts_as_a_whole_word_only():
    assert share_found(" 12345.", ("12345",)) == 1.0
    assert share_found(" 123456", ("12345",)) == 0.0
    assert share_found("a12345", ("12345",)) == 0.0
    assert share_found("moon, bird", ("bird", "boat")) == 0.5


@pytest.mark.parametrize("found", [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
def test_the_interval_of_a_share_ends_at_0_and_1(found):
    row = questions._row(questions.Setting("needle", 64, None), np.ones(4), np.array(found))
    assert 0.0 <= row.found_low < row.found == np.mean(found) < row.found_high <= 1.0


@pytest.mark.parametrize(("architecture", "segment"), [("ttt", 2048), ("transformer", 2048), ("ttt", 36)])
def test_the_nll_is_that_of_scoring_the_whole_text(split, architecture, segment, monkeypatch):
    monkeypatch.setattr(questions, "SEGMENT_TOKENS", segment)
    torch.manual_seed(0)
    model = small_model(vocab_size=split.vocab_size, architecture=architecture).eval()
    random = np.random.default_rng(0)
    prompts = torch.from_numpy(random.integers(0, split.vocab_size, (3, 37)))
    answers = [random.integers(0, split.vocab_size, count).tolist() for count in (1, 5, 3)]
    nll, continued = ask(model, prompts, answers)
    for row, answer in enumerate(answers):
        text = torch.cat([prompts[row], torch.tensor(answer)])[None]
        expected = token_nll(model, text)[0, -len(answer) :].sum()
        assert nll[row] == pytest.approx(expected, rel=1e-4)
    assert [len(ids) for ids in continued] == [13, 13, 13]
    for row, ids in enumerate(continued):
        read = prompts[row].tolist()
        for token in ids[:4]:
            logits, _ = model.next_logits(torch.tensor([read]), model.initial_state(1))
            assert token == logits.argmax().item()
            read.append(token)


def test_logits_that_are_not_finite_are_an_error(split):
    broken = KnownModel(split.vocab_size, lambda read: torch.full((split.vocab_size,), float("nan")))
    with pytest.raises(NumericalError, match="after 4 tokens are not finite"):
        ask(broken, torch.zeros((1, 4), dtype=torch.long), [[1]])


def test_finished_blocks_are_not_measured_again(split, tmp_path):
    blocks, shares = NllBlocks.beside(tmp_path, "key"), []
    of_two_blocks = task("passkey", lengths=[80], num_examples=10)
    known = Asker(job(split, uniform(split)), of_two_blocks).run(blocks, shares.append)
    again = Asker(job(split, lambda read: torch.full((split.vocab_size,), float("nan"))), of_two_blocks).run(blocks)
    assert again.rows == known.rows
    assert len(shares) == 2 * 5
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["passkey", "ruler"])
def test_every_setting_has_its_own_blocks(split, tmp_path, name):
    torch.manual_seed(0)
    model = small_model(vocab_size=split.vocab_size).eval()
    of_model, of_two_blocks = SimpleNamespace(**{**vars(job(split, None)), "model": model}), task(name, num_examples=9)
    kept = Asker(of_model, of_two_blocks).run(NllBlocks.beside(tmp_path, "key"))
    assert kept.values == Asker(of_model, of_two_blocks).run().values
    assert len({row["nll"] for row in kept.rows}) == len(kept.rows)


def test_an_oracle_finds_the_answers_of_every_block(split):
    of_two_blocks = task("passkey", lengths=[80], num_examples=9)
    asker = Asker(job(split, uniform(split)), of_two_blocks)
    known = {}
    for setting in asker.settings:
        examples = asker._examples(setting)
        for prompt, answer in zip(examples.prompts.tolist(), examples.answers, strict=True):
            known |= {tuple(prompt + answer[:place]): token for place, token in enumerate(answer)}

    def choose(read):
        return torch.nn.functional.one_hot(torch.tensor(known.get(tuple(read), split.eos_id)), split.vocab_size) * 50.0

    result = Asker(job(split, choose), of_two_blocks).run()
    assert np.min(result.values["found"]) == 1.0
    assert np.max(result.values["nlls"]) < 1e-6


def test_a_bos_stands_in_front_of_every_prompt(split):
    read = []
    with_bos = job(split, lambda ids: read.append(ids) or torch.zeros(split.vocab_size))
    with_bos.model.bos_id, with_bos.bos = 7, "always"
    asker = Asker(with_bos, task("passkey", lengths=[80]))
    asker.run()
    assert {row[0] for row in read} == {7}
    assert read[:4] == [[7, *prompt] for prompt in asker._examples(asker.settings[0]).prompts.tolist()]


def test_a_seed_chooses_the_text_and_the_pass_keys(split):
    first, again, other = (
        asker._examples(asker.settings[4])
        for asker in (Asker(job(split, uniform(split)), task("passkey", seed=seed)) for seed in (0, 0, 1))
    )
    np.testing.assert_array_equal(first.prompts, again.prompts)
    assert first.references != other.references
    assert (first.prompts[:, :5] != other.prompts[:, :5]).any(), "the text in which the keys are hidden"


def test_all_lengths_have_the_same_text_and_pass_key(split):
    asker = Asker(job(split, uniform(split)), task("passkey"))
    short, long = (asker._examples(setting) for setting in asker.settings if setting.depth == 1.0)
    assert short.references == long.references
    np.testing.assert_array_equal(short.prompts[:, :20], long.prompts[:, :20])


def test_what_cannot_be_measured_is_refused(split):
    with pytest.raises(UsageError, match="has 160 tokens and 8 more that are drawn, but known reads at most 160"):
        Asker(job(split, uniform(split), max_positions=160), task("passkey"))
    Asker(job(split, uniform(split), max_positions=168), task("passkey"))
    with pytest.raises(UsageError, match=r"passkey needs examples of at least \d+ tokens, got 5"):
        Asker(job(split, uniform(split)), task("passkey", lengths=[5]))


def test_a_length_without_room_for_a_question_is_named_with_the_tokens_that_it_needs(split):
    lengths = [5, 100, 320]
    asker = Asker(job(split, uniform(split)), task("ruler", lengths=lengths))
    needed = {part: shortest_length(part, 4, 0, asker._tokenizer.encode_all) for part in TASK_PARTS["ruler"]}
    assert {(each.part, each.length) for each in asker.settings} == {
        (part, length) for part, least in needed.items() for length in lengths if length >= least
    }
    left_out = asker.run().values["left_out"]
    assert left_out.pop("needle at 5 tokens") == f"an example needs at least {needed['needle']} tokens"
    assert left_out == {
        f"{part} at {'5' if least <= 100 else '5 and 100'} tokens": f"an example needs at least {least} tokens"
        for part, least in needed.items()
        if part != "needle"
    }
    assert 5 < min(needed.values()) <= 100 < max(needed.values())
