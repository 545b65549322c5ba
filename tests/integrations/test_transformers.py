"""Our models as models of transformers: the same logits, the same greedy text, batches, training, saving."""

from __future__ import annotations

import pytest
import torch

from tests.integrations.conftest import KINDS, load, transformers
from tttkit.infer.decoder import Decoder
from tttkit.infer.sampling import Sampling
from tttkit.models import load_model

VARIANTS = {
    **KINDS,
    "mlp-all": {"ttt_layer_type": "mlp", "use_gate": True, "share_qk": True, "pre_conv": True},
    "untied": {"tie_word_embeddings": False},
    "decay": {"state_decay": 0.9, "learn_state_decay": True, "decay_window": 8},
}


def text(rows, length, seed=0):
    return torch.randint(1, 300, (rows, length), generator=torch.Generator().manual_seed(seed))


def our_greedy(model, prompts, num_tokens):
    """Return prompts and greedy continuations as `tttkit generate --temperature 0` draws them."""
    decoder = Decoder(model, prompts, Sampling(temperature=0), max_tokens=num_tokens)
    while decoder.next_tokens():
        pass
    return decoder.texts


@pytest.mark.parametrize("name", VARIANTS)
def test_loaded_model_equals_ours_and_generates_the_same_text(export, name):
    ours, exported = export(**VARIANTS[name])
    model, expected = load(exported), load_model(ours)
    ids = text(2, 21)
    with torch.no_grad():
        logits = expected(ids)
        torch.testing.assert_close(model(ids, use_cache=False).logits, logits, atol=0, rtol=0)
        torch.testing.assert_close(model(ids).logits, logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(ids, logits_to_keep=3).logits, logits[:, -3:], atol=1e-4, rtol=1e-4)
    drawn = model.generate(ids, max_new_tokens=15, do_sample=False, eos_token_id=None)
    assert drawn.tolist() == our_greedy(expected, ids.tolist(), 15)


@pytest.mark.parametrize("name", ["ttt", "transformer", "sw"])
def test_prompts_of_different_lengths_are_padded_on_the_left(export, name):
    _, exported = export(architecture=name)
    model = load(exported)
    prompts = [text(1, length, seed=length)[0].tolist() for length in (3, 9, 9, 14)]
    ids = torch.tensor([[0] * (14 - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (14 - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    drawn = model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False, eos_token_id=None)
    for row, prompt in zip(drawn.tolist(), prompts, strict=True):
        assert row[14 - len(prompt) :] == our_greedy(model.language_model, [prompt], 10)[0]


def test_padding_between_tokens_is_refused(export):
    model = load(export()[1])
    with pytest.raises(ValueError, match="attention_mask must be one run of ones per row"):
        model(text(1, 4), attention_mask=torch.tensor([[1, 0, 1, 1]]))
    right = model(text(1, 4), attention_mask=torch.tensor([[1, 1, 0, 0]])).logits[:, :2]
    torch.testing.assert_close(right, model(text(1, 4)[:, :2]).logits, atol=1e-4, rtol=1e-4)


def test_beams_and_samples(export):
    model = load(export()[1])
    ids = text(2, 9)
    if transformers.__version__.startswith("4."):
        with pytest.raises(NotImplementedError, match="beam search needs transformers 5"):
            model.generate(ids, max_new_tokens=6, do_sample=False, num_beams=4)
        return
    one = model.generate(ids, max_new_tokens=6, do_sample=False, num_beams=4, num_return_sequences=4, eos_token_id=None)
    best = one.view(2, 4, -1)[:, 0]

    def score(rows):
        with torch.no_grad():
            logp = model(rows, use_cache=False).logits.log_softmax(-1)
        return logp[:, 8:-1].gather(-1, rows[:, 9:, None]).sum((1, 2))

    greedy = model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert (score(best) >= score(greedy) - 1e-4).all()
    scores = score(one).view(2, 4)
    assert (scores.diff(dim=1) <= 1e-4).all(), "a beam that lost its state would not be in order of its score"
    torch.manual_seed(0)
    first = model.generate(ids, max_new_tokens=6, do_sample=True, num_return_sequences=3)
    torch.manual_seed(0)
    again = model.generate(ids, max_new_tokens=6, do_sample=True, num_return_sequences=3)
    assert first.tolist() == again.tolist()
    assert len({tuple(row) for row in first.tolist()}) > 2


def test_state_continues_a_text(export):
    model, ids = load(export()[1]), text(2, 20)
    with torch.no_grad():
        whole = model(ids).logits
        first = model(ids[:, :13])
        second = model(ids[:, 13:], state=first.state)
    torch.testing.assert_close(torch.cat((first.logits, second.logits), 1), whole, atol=1e-4, rtol=1e-4)
    assert second.state.num_read == 20


def test_loss_and_gradients_equal_ours(export):
    ours, exported = export()
    model, expected, ids = load(exported).train(), load_model(ours), text(2, 17)
    loss = model(ids, labels=ids).loss
    reference = expected(ids[:, :-1], targets=ids[:, 1:])
    torch.testing.assert_close(loss, reference, atol=1e-5, rtol=1e-5)
    loss.backward()
    reference.backward()
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad, atol=1e-5, rtol=1e-3)
    assert model(ids, labels=ids).state is None, "no state is kept in training"


def test_the_head_of_a_tied_model_is_its_embedding(export):
    model = load(export()[1])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with torch.no_grad():
        model.model.embed_tokens.weight[5].fill_(0)
    assert (model(text(1, 3)).logits[..., 5] == 0).all()


def test_save_pretrained_writes_the_same_weights_and_a_directory_that_loads(export, tmp_path):
    ours, exported = export()
    load(exported).save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "modeling_tttkit.py").is_file()
    ids = text(1, 9)
    assert torch.equal(load(tmp_path / "saved")(ids).logits, load(exported)(ids).logits)
    for (name, one), (_, other) in zip(
        load_model(tmp_path / "saved").named_parameters(), load_model(ours).named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name


def test_weights_that_a_file_lacks_are_drawn_and_the_others_kept(export):
    from safetensors.torch import load_file, save_file

    ours, exported = export()
    tensors = load_file(exported / "model.safetensors")
    dropped = next(name for name in tensors if name.endswith("q_proj.weight"))
    del tensors[dropped]
    save_file(tensors, exported / "model.safetensors", metadata={"format": "pt"})
    model, expected = load(exported), load_model(ours)
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter) == (name != dropped), name
    assert model.get_parameter(dropped).std() < 0.1


def test_a_new_model_has_the_initial_weights_of_ours(export):
    config = transformers.AutoConfig.from_pretrained(export()[1], trust_remote_code=True)
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    from tttkit.models import build_model

    torch.manual_seed(3)
    expected = build_model(config.to_model_config())
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
    for name, buffer in expected.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name


def test_the_vocabulary_can_grow(export):
    model = load(export()[1])
    model.resize_token_embeddings(310)
    assert model(torch.tensor([[305, 1]])).logits.shape == (1, 2, 310)
