"""The protocol on models of transformers: what may be compared, what is null and why, text of one's own."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
import transformers

from tests.models.small import random_ids, small_model
from tttkit.data import open_split
from tttkit.errors import DataError, UsageError
from tttkit.evaluate import token_nll
from tttkit.evaluate.memory import fitting_segment
from tttkit.evaluate.model_directory import evaluate_model_directory
from tttkit.evaluate.own_text import SPLIT, prepare_own_text
from tttkit.evaluate.request import EvaluationRequest, check_request, prepare
from tttkit.models import load_scoring_model, save_model

SIZES = {"bos_token_id": 0, "eos_token_id": 1}


@pytest.fixture
def models(tmp_path, validation_split, text_tokenizer):
    """A Llama and a GPT-2 with 40 positions beside a model of ours, all with the tokenizer of the data."""
    torch.manual_seed(0)
    size = validation_split.vocab_size
    llama = transformers.LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, **SIZES,
    )  # fmt: skip
    gpt2 = transformers.GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=40, **SIZES)
    transformers.LlamaForCausalLM(llama).save_pretrained(tmp_path / "llama")
    transformers.GPT2LMHeadModel(gpt2).save_pretrained(tmp_path / "gpt2")
    save_model(small_model(vocab_size=size), tmp_path / "ours", metadata={"window": 16})
    for name in ("llama", "gpt2", "ours"):
        shutil.copy(text_tokenizer, tmp_path / name / "tokenizer.json")
    return tmp_path


@pytest.fixture
def request_for(models, text_data):
    def build(name, **fields):
        values = {"data": text_data, "num_sequences": 2, "max_length": 80, "window": 16, "device": "cpu", **fields}
        return EvaluationRequest(path=models / name, **values)

    return build


def test_figures_equal_the_nll_of_the_model(request_for, models, validation_split):
    summary = evaluate_model_directory(request_for("llama"), models / "out").summary
    assert (summary.model, summary.get("dtype"), summary.get("has_bos")) == ("llama", "fp32", False)
    assert summary.get("trained_length") == 64
    job = prepare(request_for("llama"))
    tokens = np.stack([validation_split.tokens(0, 81)]).astype(np.int64)
    nll = token_nll(job.model, tokens, "reset", window=16)
    from safetensors.numpy import load_file

    from tttkit.results.values import SEQUENCES_NAME

    measured = load_file(models / "out" / SEQUENCES_NAME)["reset"][0]
    np.testing.assert_allclose(measured, nll[0].reshape(-1, 16).mean(1), atol=1e-4)


def test_full_is_null_beyond_learned_positions_and_the_reason_is_recorded(request_for, models):
    summary = evaluate_model_directory(request_for("gpt2"), models / "out").summary
    assert summary.perplexity("full", 2) is not None
    assert summary.perplexity("full", 5) is None
    assert summary.ratio("sw", 5).value is None
    assert summary.perplexity("sw", 5) is not None
    assert summary.get("not_measured") == {"full": "the model has 40 positions, so `full` ends there"}
    with pytest.raises(UsageError, match="window must be at most 40, the positions that the gpt2 model has, got 50"):
        evaluate_model_directory(request_for("gpt2", window=50, max_length=120), models / "wide")


def test_a_bos_in_front_changes_figures_and_key_and_is_recorded(request_for, models):
    plain = evaluate_model_directory(request_for("llama"), models / "out").summary
    (models / "llama" / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    with_bos = evaluate_model_directory(request_for("llama"), models / "out").summary
    assert (with_bos.get("has_bos"), with_bos.get("bos_id")) == (True, 0)
    assert with_bos.get("evaluation_key") != plain.get("evaluation_key")
    assert with_bos.perplexity("sw", 5) != plain.perplexity("sw", 5)
    assert with_bos.get("whole_split")["nll_sum"] != plain.get("whole_split")["nll_sum"]
    never = evaluate_model_directory(request_for("llama", bos="never"), models / "never").summary
    assert never.get("evaluation_key") == plain.get("evaluation_key")


def test_the_type_of_the_products_is_a_part_of_the_key(request_for):
    keys = {prepare(request_for(name, dtype=dtype)).key for name in ("llama", "ours") for dtype in ("fp32", "bf16")}
    assert len(keys) == 4


def test_a_foreign_model_needs_a_window(request_for):
    with pytest.raises(
        UsageError, match=r"does not say on which window it was trained \(it reads up to 64 tokens\)"
    ) as e:
        check_request(request_for("llama", window=None))
    assert "--window W" in e.value.hint
    check_request(request_for("ours", window=None))


def test_tokenizers_are_compared_by_vocabulary_and_merges(request_for, models, tmp_path):
    path = models / "llama" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["merges"] = [" ".join(merge) for merge in values["model"]["merges"]]
    path.write_text(json.dumps(values, indent=1))
    check_request(request_for("llama"))
    values["model"]["merges"][:2] = values["model"]["merges"][1::-1]
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="has another tokenizer than the data in .*: their vocabularies or merges") as e:
        check_request(request_for("llama"))
    assert f"--tokenizer {models / 'llama'}" in e.value.hint
    path.unlink()
    check_request(request_for("llama"))
    assert "holds no tokenizer, so it is not known" in prepare(request_for("llama")).messages[0]


def test_text_of_ones_own_is_prepared_with_the_tokenizer_of_the_model(models, tmp_path, request_for):
    text = tmp_path / "text.txt"
    text.write_text("A ship was lost far from home. " * 200)
    data = prepare_own_text([text], models / "llama", tmp_path)
    assert data.parent == tmp_path
    split = open_split(data, SPLIT)
    assert split.num_bytes == text.stat().st_size
    before = (data / "manifest.json").stat().st_mtime_ns
    assert prepare_own_text([text], models / "llama", tmp_path) == data
    assert (data / "manifest.json").stat().st_mtime_ns == before
    summary = evaluate_model_directory(request_for("llama", data=data, split=SPLIT), tmp_path / "out").summary
    assert summary.get("whole_split")["num_bytes"] == split.num_bytes
    text.write_text("Another text. " * 200)
    assert prepare_own_text([text], models / "llama", tmp_path) != data
    (models / "llama" / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="holds no tokenizer to prepare text with"):
        prepare_own_text([text], models / "llama", tmp_path)


def test_a_text_too_long_for_memory_is_read_in_segments_only_where_they_are_exact(models, monkeypatch):
    model = load_scoring_model(models / "llama")
    assert fitting_segment(model, 100) is None
    size = model.bytes_per_token()
    monkeypatch.setattr("tttkit.evaluate.memory.available_bytes", lambda *_: 300 * size)
    assert fitting_segment(model, 60) is None
    assert fitting_segment(model, 100) == 64
    model.traits = dataclasses.replace(model.traits, can_carry=False)
    assert fitting_segment(model, 100) is None
    with pytest.raises(UsageError, match="`full` over 1000 tokens needs about .* GB in one pass"):
        fitting_segment(model, 1000)


def test_memory_does_not_change_figures(request_for, models, monkeypatch):
    whole = evaluate_model_directory(request_for("llama"), models / "whole").summary
    lengths = []
    monkeypatch.setattr("tttkit.evaluate.measure.fitting_segment", lambda _, length: lengths.append(length) or 24)
    parts = evaluate_model_directory(request_for("llama"), models / "parts").summary
    assert set(lengths) == {16, 80}
    assert parts.perplexity("full", 5) == pytest.approx(whole.perplexity("full", 5), rel=1e-4)


def test_the_noise_floor_of_the_contexts(models):
    """Before W all contexts see the same tokens, whatever code their lengths run."""
    model, tokens = load_scoring_model(models / "llama"), random_ids(2, 161)
    for window in (64, 32):
        full = token_nll(model, tokens, "full", window=window)[:, :window]
        for context in ("sw", "reset"):
            np.testing.assert_allclose(token_nll(model, tokens, context, window=window)[:, :window], full, atol=1e-3)
