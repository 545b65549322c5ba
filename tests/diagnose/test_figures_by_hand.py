"""The figures of a diagnosis equal those computed by hand, and its key tells what would change them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tests.diagnose.known_models import LastTokens, Rereader
from tests.models.small import small_model
from tttkit.data import open_split
from tttkit.diagnose import measure
from tttkit.diagnose.effective_memory import next_token_probabilities, total_variation
from tttkit.diagnose.key_tokens import choose_key_tokens
from tttkit.diagnose.plan import PARTS, Plan
from tttkit.diagnose.states import along
from tttkit.evaluate.blocks import NllBlocks
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.sequences import spread

PLAN = Plan(seconds=dict.fromkeys(PARTS, 1.0), num_bytes=0)


def job_of(split, model, key="key", weights="weights"):
    return SimpleNamespace(
        model=model, split=split, window=16, bos="never", key=key, facts={"weights_sha256": weights, "path": "model"}
    )


@pytest.fixture
def splits(tiny_data):
    return open_split(tiny_data, "validation"), open_split(tiny_data, "train")


@pytest.fixture
def diagnosed(splits, tmp_path):
    """A small model, its diagnoser, and its diagnosis on three texts of 80 tokens."""
    split, training = splits
    model = small_model(vocab_size=split.vocab_size).eval()
    diagnoser = measure.Diagnoser(job_of(split, model), training=training, evaluator=None, max_length=80,
                                  num_sequences=3)  # fmt: skip
    return model, diagnoser, diagnoser.run(PLAN, NllBlocks.beside(tmp_path, "key"))


def test_the_state_is_the_mean_over_all_texts(diagnosed):
    model, diagnoser, diagnosis = diagnosed
    norms = [along(model, text, 4, None, lambda _: None)["norm"] for text in diagnoser.tokens[:, :-1]]
    np.testing.assert_allclose(np.transpose(diagnosis.state["norm"]), np.mean(norms, axis=0), rtol=1e-5)
    means = diagnosis.state["over_layers"]["norm"]
    np.testing.assert_allclose(means["mean"], np.mean(norms, axis=(0, 2)), rtol=1e-5)
    assert np.all(np.less(means["low"], means["mean"]))
    assert np.all(np.less(means["mean"], means["high"]))


def test_the_total_variation_is_that_between_the_whole_past_and_the_last_tokens(diagnosed):
    model, diagnoser, diagnosis = diagnosed
    for item in diagnosis.memory:
        position = item["position"]
        assert position == 16 * item["label"]
        whole = next_token_probabilities(model, diagnoser.tokens[:, :position], None)
        for size, mean in zip(item["tokens"], item["variation"], strict=True):
            last = next_token_probabilities(model, diagnoser.tokens[:, position - size : position], None)
            assert total_variation(whole, last).mean() == pytest.approx(mean, abs=1e-5)
        assert np.all(np.less_equal(item["low"], item["variation"]))
        assert np.all(np.less_equal(item["variation"], item["high"]))


def test_the_perplexity_is_that_of_the_texts_with_the_full_context(diagnosed):
    model, diagnoser, diagnosis = diagnosed
    nll = token_nll(model, diagnoser.tokens)
    by_hand = [np.exp(nll[:, first:last].mean()) for first, last in ((0, 16), (16, 32), (32, 80))]
    assert [band["ppl"] for band in diagnosis.perplexity] == pytest.approx(by_hand, rel=1e-4)


def test_the_reference_reads_disjoint_windows_of_the_training_split(splits, tmp_path, monkeypatch):
    split, training = splits
    read, reference_of = [], measure.reference_of
    monkeypatch.setattr(
        measure,
        "reference_of",
        lambda model, windows, *rest: read.append(windows) or reference_of(model, windows, *rest),
    )
    job = job_of(split, small_model(vocab_size=split.vocab_size).eval())
    diagnoser = measure.Diagnoser(job, training=training, evaluator=None, max_length=16, num_sequences=1)
    diagnoser.run(PLAN, NllBlocks.beside(tmp_path, "key"))
    most = training.num_tokens // 16
    every = training.tokens(0, 16 * most).reshape(most, 16)
    np.testing.assert_array_equal(read[0], every[spread(most, min(256, most))])


def test_the_evaluator_chooses_the_key_tokens(splits, tmp_path):
    split, training = splits
    model = LastTokens(5)
    model.vocab_size = split.vocab_size
    diagnoser = measure.Diagnoser(job_of(split, model), training=training, evaluator=job_of(split, Rereader()),
                                  max_length=80, num_sequences=3)  # fmt: skip
    chosen = diagnoser._key_tokens(NllBlocks.beside(tmp_path, "key"), lambda _: None)
    expected = choose_key_tokens(Rereader(), diagnoser.tokens, 16, "never", lambda _: None)
    assert expected.any()
    np.testing.assert_array_equal(chosen, expected)


def test_the_key_tells_models_evaluators_training_texts_and_sizes_apart(splits):
    split, training = splits
    model = LastTokens(5)
    model.vocab_size = split.vocab_size

    def key(job="key", evaluator="weights", training=training, **sizes):
        return measure.Diagnoser(
            job_of(split, model, key=job), training=training, evaluator=job_of(split, Rereader(), weights=evaluator),
            **{"max_length": 80, "num_sequences": 3, **sizes},
        ).key  # fmt: skip

    other_text = SimpleNamespace(fingerprint="other", num_tokens=training.num_tokens)
    others = [
        key(job="other"), key(evaluator="other"), key(training=None), key(training=other_text), key(max_length=64),
        key(num_sequences=2),
    ]  # fmt: skip
    assert key() == key()
    assert len({key(), *others}) == 1 + len(others)


def test_without_sizes_sixteen_texts_of_twenty_windows_are_read(splits):
    split, training = splits
    model = LastTokens(5)
    model.vocab_size = split.vocab_size
    sizes = measure.Diagnoser(job_of(split, model), training=training, evaluator=None).sizes
    assert sizes.max_length == 20 * 16
    assert sizes.num_sequences == min(16, split.num_tokens // 321)
    assert sizes.positions == [16, 32, 80, 160, 320]


def test_a_state_needs_twenty_training_windows_for_its_distance_and_a_window_of_a_whole_mini_batch(splits):
    split, _ = splits
    job = job_of(split, small_model(vocab_size=split.vocab_size))
    for num_windows, reason in ((19, "fewer than 20 windows of W tokens to compare with"), (20, None)):
        training = SimpleNamespace(num_tokens=16 * num_windows, fingerprint="few")
        diagnoser = measure.Diagnoser(job, training=training, evaluator=None, max_length=16, num_sequences=1)
        assert diagnoser.left_out.get("distance") == reason
        assert diagnoser.sizes.num_windows == (0 if reason else 20)
    job.window = 3
    diagnoser = measure.Diagnoser(job, training=None, evaluator=None, max_length=16, num_sequences=1)
    assert diagnoser.left_out["state"] == "the window is shorter than an inner mini-batch"


def test_a_bos_stands_in_front_of_the_texts_whose_perplexity_is_measured(splits, tmp_path):
    split, _ = splits
    model = Rereader()
    job = job_of(split, model)
    diagnoser = measure.Diagnoser(job, training=None, evaluator=None, max_length=48, num_sequences=3)
    model.bos_id, job.bos = int(diagnoser.tokens[0, 5]), "always"
    nll = diagnoser._nll(NllBlocks.beside(tmp_path, "key"), lambda _: None)
    np.testing.assert_array_equal(nll, token_nll(model, diagnoser.tokens, bos="always"))
    assert (nll != token_nll(model, diagnoser.tokens)).any()
