"""Checks at load find what a model does wrong: later tokens seen, a cache that forgets, a head that is not alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.hugging_face.conftest import transformers
from tests.models.small import random_ids
from tttkit.errors import DataError
from tttkit.evaluate import token_nll
from tttkit.models import load_scoring_model
from tttkit.models.hugging_face.checks import find_traits


@pytest.fixture
def llama(save_small):
    return transformers.AutoModelForCausalLM.from_pretrained(save_small()).eval()


def traits(model):
    return find_traits(model, name="llama", trained_positions=256)


def test_a_sound_model_carries_and_has_a_head_of_its_own(llama):
    found = traits(llama)
    assert found.can_carry
    assert found.has_split_head
    assert found.notes == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cache_that_is_ignored_is_noticed(llama, monkeypatch, dtype):
    """This is what an unknown argument name does: no error, wrong numbers."""
    forward = llama.model.forward

    def forget(*args, **arguments):
        known = {name: value for name, value in arguments.items() if "cache" not in name and "key" not in name}
        return forward(*args, **known, use_cache=True)

    llama.to(dtype)
    monkeypatch.setattr(llama.model, "forward", forget)
    found = traits(llama)
    assert not found.can_carry
    assert "gives other numbers in segments than in one pass" in found.notes[0]
    assert "`full` reads each text in one pass" in found.notes[0]


def test_a_cache_that_fails_for_single_tokens_is_noticed(llama, monkeypatch):
    forward = llama.model.forward

    def fail(input_ids=None, **arguments):
        return forward(input_ids=input_ids * 0 if input_ids.shape[1] == 1 else input_ids, **arguments)

    monkeypatch.setattr(llama.model, "forward", fail)
    assert not traits(llama).can_carry


def test_a_model_without_cache_reads_one_pass(llama, monkeypatch):
    forward = llama.model.forward
    monkeypatch.setattr(
        llama.model, "forward", lambda *args, **arguments: forward(*args, **{**arguments, "use_cache": False})
    )
    found = traits(llama)
    assert not found.can_carry
    assert "cannot continue a text from a cache" in found.notes[0]


def test_a_model_that_sees_later_tokens_is_refused(llama, monkeypatch):
    forward = llama.model.forward

    def peek(*args, **arguments):
        result = forward(*args, **arguments)
        result.last_hidden_state = result.last_hidden_state + result.last_hidden_state.mean(1, keepdim=True)
        return result

    monkeypatch.setattr(llama.model, "forward", peek)
    with pytest.raises(DataError, match="the llama model is not causal: its predictions change by up to .* nats"):
        traits(llama)


def test_a_model_whose_head_needs_more_than_hidden_states_gives_whole_logits(save_small, monkeypatch):
    directory = save_small()
    expected = token_nll(load_scoring_model(directory), random_ids(2, 20), "full")
    forward = transformers.LlamaForCausalLM.forward

    def by_length(self, input_ids=None, use_cache=None, cache=None, past_key_values=None):
        result = forward(self, input_ids, use_cache=use_cache)
        result.logits = result.logits - (result.logits.shape[1] % 2)  # no change of probabilities
        if input_ids.sum() == 0:
            result.logits = result.logits * 2  # the ids stand for hidden states that were given
        return result

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", by_length)
    model = load_scoring_model(directory)
    assert not model.traits.has_split_head
    np.testing.assert_allclose(token_nll(model, random_ids(2, 20), "full"), expected, atol=1e-4)


def test_memory_is_estimated_from_the_largest_tensor_without_logits(save_small):
    """The logits of a large vocabulary would dwarf everything else."""
    small, large = (load_scoring_model(save_small(name=str(size), vocab_size=size)) for size in (61, 4000))
    assert large.bytes_per_token() == small.bytes_per_token() >= 6 * 4 * 24
