"""What is written and judged: draws, seeds, the text that the judge reads, and the key of the results."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.quality.test_measure import SIZES, LoopingModel
from tttkit.data import open_split
from tttkit.evaluate.blocks import NllBlocks
from tttkit.quality import measure
from tttkit.quality.judge import features
from tttkit.quality.measure import Writer


class FourTokens(LoopingModel):
    """Predicts tokens 0 … 3 with fixed probabilities."""

    def next_logits(self, input_ids, state):
        _, state = super().next_logits(input_ids, state)
        logits = torch.full((len(input_ids), self.vocab_size), -60.0)
        logits[:, :4] = torch.tensor([0.9, 0.06, 0.03, 0.01]).log()
        return logits, state


class Judge(LoopingModel):
    """Keeps the windows that it scores; the NLL of a token is its id."""

    bos_id = 2

    def __init__(self, vocab_size):
        super().__init__(vocab_size)
        self.read = []

    def score(self, windows, num_scored, *, head_positions=None):
        self.read.append(windows.numpy())
        return windows[:, -num_scored:].float()

    def eval(self):
        return self

    def train(self, mode=True):
        return self


@pytest.fixture
def split(tiny_data):
    return open_split(tiny_data, "validation")


def job_of(split, model, key="key", **values):
    facts = {"weights_sha256": values.pop("weights", "weights"), "path": "model"}
    return SimpleNamespace(**{"model": model, "split": split, "window": 8, "bos": "never", "key": key, "facts": facts,
                              **values})  # fmt: skip


def continued(writer, tmp_path, method):
    return writer._continue(8, method, NllBlocks.beside(tmp_path, f"{method}{writer.settings.seed}"), lambda _: None)


def test_greedy_takes_the_most_likely_token_and_nucleus_the_fewest_that_have_95_percent(split, tmp_path):
    writer = Writer(job_of(split, FourTokens(split.vocab_size)), dataclasses.replace(SIZES, num_prompts=40), None)
    assert set(continued(writer, tmp_path, "greedy").flat) == {0}
    assert set(continued(writer, tmp_path, "nucleus").flat) == {0, 1}


def test_a_seed_chooses_the_prompts_and_the_draws(split, tmp_path):
    writers = [
        Writer(job_of(split, FourTokens(split.vocab_size)), dataclasses.replace(SIZES, seed=seed), None)
        for seed in (0, 0, 1)
    ]
    assert writers[0].ends == writers[1].ends != writers[2].ends
    first, again, other = (continued(writer, tmp_path, "nucleus") for writer in writers)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_all_places_differ_even_if_every_place_is_needed(split):
    some = SimpleNamespace(num_tokens=24 + 12 + 9, tokens=split.tokens, vocab_size=split.vocab_size)
    writer = Writer(job_of(some, LoopingModel(split.vocab_size)), dataclasses.replace(SIZES, num_prompts=10), None)
    assert writer.ends == list(range(24, 34))


def test_the_judge_reads_its_bos_and_w_tokens_of_the_prompt_before_every_continuation(split, tmp_path):
    judge = Judge(split.vocab_size)
    writer = Writer(
        job_of(split, LoopingModel(split.vocab_size)), SIZES, job_of(split, judge, bos="always", weights="judge")
    )
    blocks = NllBlocks.beside(tmp_path, "key")
    quality = writer.run(blocks)
    written = [
        *(writer._continue(length, method, blocks, lambda _: None) for length in (8, 24) for method in measure.METHODS),
        writer.texts[:, 24:],
    ]
    for cell, ids, read in zip(quality.cells, written, judge.read, strict=True):
        texts = np.concatenate([np.full((3, 1), 2), writer.texts[:, 16:24], ids], axis=1)
        np.testing.assert_array_equal(read, texts)
        np.testing.assert_allclose(cell["per_prompt"]["judge_nll"], ids.mean(axis=1), rtol=1e-6)


def test_every_sample_has_its_own_prompt_text_and_continuations(split, tmp_path):
    writer = Writer(job_of(split, FourTokens(split.vocab_size)), SIZES, None)
    blocks = NllBlocks.beside(tmp_path, "key")
    samples = writer.run(blocks).values["samples"]
    from tttkit.infer.text import TextTokenizer

    decode = TextTokenizer(str(split.tokenizer_path), split.vocab_size).decode
    drawn = writer._continue(24, "nucleus", blocks, lambda _: None)
    for row, sample in enumerate(samples):
        assert sample["prompt"] == decode(writer.texts[row, :24].tolist())
        assert sample["text"] == decode(writer.texts[row, 24:].tolist())
        texts = {(each["length"], each["method"]): each["text"] for each in sample["continuations"]}
        assert texts[24, "nucleus"] == decode(drawn[row].tolist())


def test_mauve_compares_each_kind_of_continuation_with_the_real_text(split, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(measure.mauve, "obstacle", lambda *_, **__: None)
    monkeypatch.setattr(measure.mauve, "score", lambda *each: compared.append(each) or 0.5)
    judge = Judge(split.vocab_size)
    settings = dataclasses.replace(SIZES, seed=7)
    writer = Writer(job_of(split, FourTokens(split.vocab_size)), settings, job_of(split, judge))
    blocks = NllBlocks.beside(tmp_path, "key")
    cells = writer.run(blocks).cells
    assert [cell["mauve"] for cell in cells] == [0.5, 0.5, 0.5, 0.5, None]
    for cell, (written, real, seed) in zip(cells[:-1], compared, strict=True):
        ids = writer._continue(cell["length"], cell["method"], blocks, lambda _: None)
        np.testing.assert_array_equal(written, features(judge, ids, 8))
        np.testing.assert_array_equal(real, features(judge, writer.texts[:, 24:], 8))
        assert seed == 7


def test_the_key_tells_models_judges_settings_and_mauve_apart(split, monkeypatch):
    model = LoopingModel(split.vocab_size)

    def key(job="key", judge="judge", mauve=None, **settings):
        monkeypatch.setattr(measure.mauve, "obstacle", lambda *_, **__: mauve)
        judging = job_of(split, model, weights=judge) if judge else None
        return Writer(job_of(split, model, key=job), dataclasses.replace(SIZES, **settings), judging).key

    others = [
        key(job="other"), key(judge="other"), key(judge=None), key(mauve="missing"), key(seed=1), key(num_prompts=2),
        key(max_tokens=13), key(lengths=(8, 16)),
    ]  # fmt: skip
    assert key() == key()
    assert len({key(), *others}) == 1 + len(others)
