"""Cached decoding equals recomputation, for any prompts, lengths and neighbors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.small import ARCHITECTURES, VOCAB_SIZE, exact_model, random_ids, small_model
from tttkit.errors import NumericalError
from tttkit.infer import decoder as decoder_module
from tttkit.infer.decoder import Decoder
from tttkit.infer.sampling import Sampling, probabilities

MODELS = {name: exact_model(**fields) for name, fields in ARCHITECTURES.items()}
MODELS["decay"] = small_model(state_decay=0.7, decay_window=8)
GREEDY = Sampling(temperature=0)


def prompts_of(lengths, seed=0):
    return [random_ids(1, length, seed=seed + i)[0].tolist() for i, length in enumerate(lengths)]


def run(model, prompts, sampling, max_tokens):
    decoder = Decoder(model, prompts, sampling, max_tokens=max_tokens)
    while decoder.next_tokens():
        pass
    return decoder.texts


def recomputed(model, prompt, max_tokens):
    text = list(prompt)
    for _ in range(max_tokens):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    return text


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 23), drawn=st.integers(1, 9))
def test_cached_distribution_equals_the_uncached_one(name, seed, length, drawn):
    """Compare total variation and argmax over random weights and every alignment of prompt and mini-batch."""
    model = exact_model(seed=seed, **{**ARCHITECTURES, "decay": {"state_decay": 0.7, "decay_window": 8}}[name])
    decoder = Decoder(model, prompts_of([length], seed), Sampling(seed=seed), max_tokens=drawn)
    read = []
    decoder._read = lambda: read.append(Decoder._read(decoder)) or read[-1]
    for _ in range(drawn):
        before = torch.tensor(decoder.texts)
        decoder.next_tokens()
        with torch.inference_mode():
            cached, uncached = (probabilities(logits, Sampling()) for logits in (read[-1], model(before)[:, -1]))
        assert (cached - uncached).abs().sum() / 2 < 1e-5
        assert cached.argmax() == uncached.argmax()


@pytest.mark.parametrize("name", MODELS)
def test_prompts_of_different_lengths_do_not_touch_each_other(name):
    model, prompts = MODELS[name], prompts_of([3, 17, 1, 9, 9])
    together = run(model, prompts, GREEDY, 6)
    assert together == [recomputed(model, prompt, 6) for prompt in prompts]


def test_sampled_rows_do_not_depend_on_their_neighbours():
    model, prompts = MODELS["linear"], prompts_of([5, 12, 2])
    together = run(model, prompts, Sampling(seed=3), 8)
    alone = run(model, prompts[:1], Sampling(seed=3), 8)
    assert together[0] == alone[0]
    assert run(model, prompts, Sampling(seed=4), 8) != together


def test_long_prompts_are_read_in_segments(monkeypatch):
    model, prompts = MODELS["mlp"], prompts_of([70, 61])
    whole = run(model, prompts, GREEDY, 4)
    lengths = []
    advance = type(model).advance
    monkeypatch.setattr(
        type(model), "advance", lambda m, ids, state: lengths.append(ids.shape) or advance(m, ids, state)
    )
    monkeypatch.setattr(decoder_module, "SEGMENT_TOKENS", 20)
    assert run(model, prompts, GREEDY, 4) == whole
    assert max(rows * length for rows, length in lengths) == 20


def test_the_state_of_a_ttt_model_does_not_grow():
    model = MODELS["mlp-all"]
    decoder = Decoder(model, prompts_of([3]), GREEDY, max_tokens=40)
    sizes = []
    while decoder.next_tokens():
        sizes.append(sum(t.numel() for layer in decoder._state.layers for t in layer.values()))
    assert len(sizes) == 40
    assert len(set(sizes)) == 1


def test_finished_rows_leave_the_batch():
    model = MODELS["linear"]
    decoder = Decoder(model, prompts_of([4, 4]), GREEDY, max_tokens=5)
    assert decoder.next_tokens().keys() == {0, 1}
    decoder.finish(0)
    assert decoder.next_tokens().keys() == {1}
    assert decoder._state.batch_size == 1
    assert len(decoder.texts[0]) == 5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_end_the_text(temperature):
    model = small_model()
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    decoder = Decoder(model, prompts_of([1]), Sampling(temperature=temperature), max_tokens=1)
    with pytest.raises(NumericalError, match="logits at position 1 are not finite"):
        decoder.next_tokens()


@pytest.mark.parametrize(
    ("prompts", "max_tokens", "message"),
    [
        ([], 1, "at least one prompt"),
        ([[1], []], 1, "prompt 1 is empty"),
        ([[VOCAB_SIZE]], 1, r"ids in 0 … 60 \(vocab_size 61\), got 61 … 61"),
        ([[1]], 0, "max_tokens must be at least 1, got 0"),
    ],
)
def test_unusable_requests_are_refused(prompts, max_tokens, message):
    with pytest.raises(ValueError, match=message):
        Decoder(MODELS["linear"], prompts, GREEDY, max_tokens=max_tokens)
