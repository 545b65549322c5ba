"""Models of transformers continue texts as their own `generate()` does."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from tests.cli.conftest import tttkit
from tests.models.hugging_face.conftest import save_small, transformers
from tests.models.small import random_ids
from tttkit.errors import UsageError
from tttkit.infer.decoder import Decoder
from tttkit.infer.loading import load_generator
from tttkit.infer.sampling import Sampling
from tttkit.infer.text import continue_texts
from tttkit.models import load_scoring_model

__all__ = ["save_small"]
GREEDY = Sampling(temperature=0)
LENGTHS = (5, 12, 1)


def prompts_of(lengths=LENGTHS):
    return [random_ids(1, length, seed=length)[0].tolist() for length in lengths]


def generated(directory, prompt, num_tokens):
    """Return prompt and continuation by transformers' own greedy generation."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    options = {"max_new_tokens": num_tokens, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    ids = torch.tensor([prompt])
    # without a mask, token 0 would count as padding
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()


def decoded(model, prompts, num_tokens, stop_after=None):
    decoder = Decoder(model, prompts, GREEDY, max_tokens=num_tokens)
    while decoder.next_tokens():
        if stop_after and len(decoder.texts[0]) == len(prompts[0]) + stop_after:
            decoder.finish(0)
    return decoder


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba2", "gemma2"])
def test_greedy_texts_equal_those_of_transformers(save_small, family):
    directory, prompts = save_small(family), prompts_of()
    decoder = decoded(load_scoring_model(directory), prompts, 24)
    assert decoder.texts == [generated(directory, prompt, 24) for prompt in prompts]


@pytest.mark.parametrize("family", ["llama", "mamba2"])
def test_a_row_that_has_ended_does_not_disturb_the_others(save_small, family):
    directory, prompts = save_small(family), prompts_of((5, 5, 9))
    decoder = decoded(load_scoring_model(directory), prompts, 16, stop_after=3)
    assert len(decoder.texts[0]) == 8
    assert decoder.texts[1:] == [generated(directory, prompt, 16) for prompt in prompts[1:]]


def test_a_model_without_a_usable_cache_reads_the_whole_text(save_small):
    directory, prompts = save_small("llama"), prompts_of()
    model = load_scoring_model(directory)
    model.traits = dataclasses.replace(model.traits, can_carry=False)
    decoder = decoded(model, prompts, 8)
    assert decoder.texts == [generated(directory, prompt, 8) for prompt in prompts]
    assert decoder._state.num_bytes == 8 * decoder._state.ids.numel()


def test_a_forked_state_can_be_continued_twice(save_small):
    for family in ("llama", "mamba2"):
        model = load_scoring_model(save_small(family))
        with torch.inference_mode():
            _, state = model.next_logits(random_ids(2, 7), model.initial_state(2))
            after = [model.next_logits(random_ids(2, 3, seed=4), state.forked())[0] for _ in range(2)]
        torch.testing.assert_close(after[0], after[1], rtol=0, atol=0)
        assert state.num_bytes > 0


def test_positions_that_end_are_named_before_anything_is_drawn(save_small):
    model = load_scoring_model(save_small("gpt2"))
    assert len(decoded(model, prompts_of((9,)), 40).texts[0]) == 49
    with pytest.raises(UsageError, match="reads at most 48 tokens, but prompt and continuation have 49"):
        Decoder(model, prompts_of((9,)), GREEDY, max_tokens=41)


@pytest.fixture
def with_tokenizer(save_small, tiny_data):
    directory = save_small("llama", vocab_size=300)
    shutil.copy(tiny_data / "tokenizer.json", directory)
    return directory


def test_bos_stands_in_front_and_every_end_of_text_counts(with_tokenizer):
    model, tokenizer = load_generator(with_tokenizer)
    plain = tokenizer.encode("the cat")
    (with_tokenizer / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    (with_tokenizer / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": [7, 8]}')
    model, tokenizer = load_generator(with_tokenizer)
    assert (model.bos_id, model.end_ids) == (0, {7, 8})
    drawn = iter([9, 8, 9, 9])
    model.next_logits = lambda ids, state: (
        torch.nn.functional.one_hot(torch.tensor([next(drawn)]), 300).float(),
        dataclasses.replace(state, position=state.position + ids.shape[1]),
    )
    (*_, (last, _)) = continue_texts(model, tokenizer, ["the cat"], GREEDY, max_tokens=4)
    assert (last.prompt_ids, last.ids, last.finish_reason) == ([0, *plain], [9, 8], "end-of-text")


def test_the_command_generates_with_a_foreign_model(with_tokenizer):
    answer = tttkit("generate", with_tokenizer, "--prompt", "the cat", "--max-tokens", 6, "--temperature", 0, "--json")
    assert answer.code == 0, answer.err
    (result,) = json.loads(answer.out)["results"]
    _, tokenizer = load_generator(with_tokenizer)
    ids = tokenizer.encode("the cat")
    assert [*ids, *result["ids"]] == generated(with_tokenizer, ids, 6)[: len(ids) + len(result["ids"])]
    low = tttkit("generate", with_tokenizer, "--prompt", "the cat", "--max-tokens", 2, "--dtype", "bf16", "--seed", 1)
    assert low.code == 0, low.err


def test_code_in_a_directory_runs_only_with_permission(with_tokenizer):
    path = with_tokenizer / "config.json"
    config = json.loads(path.read_text())
    config |= {"model_type": "unheard_of", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    path.write_text(json.dumps(config))
    answer = tttkit("generate", with_tokenizer, "--prompt", "a")
    assert (answer.code, "--trust-remote-code" in answer.error) == (2, True)
    (with_tokenizer / "tokenizer.json").unlink()
    answer = tttkit("generate", with_tokenizer, "--prompt", "a")
    assert (answer.code, "holds no tokenizer (model_type unheard_of)" in answer.error) == (2, True)
