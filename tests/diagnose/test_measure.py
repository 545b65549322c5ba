"""A diagnosis of a model directory: parts that a model allows, reasons for the others, and going on after a stop."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.diagnose.known_models import LastTokens
from tests.models.small import small_model
from tttkit.data import open_split
from tttkit.diagnose import measure
from tttkit.diagnose.directory import diagnose_model_directory
from tttkit.errors import UsageError
from tttkit.evaluate.request import EvaluationRequest
from tttkit.models import save_model
from tttkit.results.diagnose import COLUMNS, Diagnosis

SIZES = {"window": 16, "max_length": 80, "num_sequences": 3, "device": "cpu"}


@pytest.fixture
def request_for(tmp_path, tiny_data):
    """Build a request for a small model with the tokenizer of the data."""

    def build(name="ours", **fields):
        vocab_size = json.loads((tiny_data / "manifest.json").read_text())["vocab_size"]
        torch.manual_seed(0)
        save_model(small_model(vocab_size=vocab_size, **fields), tmp_path / name, metadata={"window": 16})
        shutil.copy(tiny_data / "tokenizer.json", tmp_path / name)
        return EvaluationRequest(path=tmp_path / name, data=tiny_data, **SIZES)

    return build


def test_every_part_is_measured_for_a_model_with_a_state(request_for, tmp_path):
    attention = request_for("attention", architecture="transformer").path
    result = diagnose_model_directory(request_for(), tmp_path / "out", evaluator=attention)
    diagnosis = Diagnosis.read(tmp_path / "out" / "diagnose.json")
    assert diagnosis.to_dict() == json.loads(json.dumps(result.diagnosis.to_dict()))
    assert diagnosis.left_out == {}
    assert diagnosis.state["positions"] == list(range(4, 81, 4))
    assert np.array(diagnosis.state["distance"]).shape == (2, 20)
    assert [item["label"] for item in diagnosis.memory] == [1, 2, 5]
    assert [(band["first"], band["last"]) for band in diagnosis.perplexity] == [(1, 16), (17, 32), (33, 80)]
    assert [band["tokens"] for band in diagnosis.perplexity] == [3 * 16, 3 * 16, 3 * 48]
    assert diagnosis.values["evaluator"]["path"] == str(attention)
    assert diagnosis.values["reference_split"] == "train"
    assert not list((tmp_path / "out").glob(".nll-*"))
    rows = diagnosis.table_rows()
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert "-" not in {value for name, value in rows[-1].items() if name != "ppl of key tokens"}


def test_a_window_of_attention_is_no_state_and_says_so(request_for, tmp_path):
    diagnosis = diagnose_model_directory(request_for("sw", architecture="sw"), tmp_path / "out").diagnosis
    assert diagnosis.state is None
    assert "no recurrent state" in diagnosis.left_out["state"]
    assert "--evaluator" in diagnosis.left_out["key_tokens"]
    assert all(item["effective"] >= 1 for item in diagnosis.memory)


def test_a_hybrid_has_the_states_of_its_recurrent_layers(request_for, tmp_path):
    request = request_for("hybrid", pattern=["sw", "gated-deltanet"], num_key_heads=1)
    diagnosis = diagnose_model_directory(request, tmp_path / "out").diagnosis
    assert diagnosis.state["layers"] == [1]
    assert "inner loss" in diagnosis.left_out["inner_loss"]


class Stop(Exception):
    """Stands in for a signal."""


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_stopped_diagnosis_goes_on_with_the_same_figures(request_for, tmp_path, share, monkeypatch):
    request = request_for()
    attention = request_for("attention", architecture="transformer").path

    def stop(done):
        if done >= share:
            raise Stop

    with pytest.raises(Stop):
        diagnose_model_directory(request, tmp_path / "out", evaluator=attention, progress=stop)
    assert not (tmp_path / "out" / "diagnose.json").exists()
    (blocks,) = (tmp_path / "out").glob(".nll-*")
    finished = {path.name for path in blocks.glob("*.safetensors")}
    written = []
    write = measure.NllBlocks.arrays
    monkeypatch.setattr(
        measure.NllBlocks, "arrays",
        lambda self, name, compute, *rest: write(self, name, lambda: written.append(name) or compute(), *rest),
    )  # fmt: skip
    again = diagnose_model_directory(request, tmp_path / "out", evaluator=attention).diagnosis
    assert finished.isdisjoint(f"{name}.safetensors" for name in written), "a finished part was measured again"
    whole = diagnose_model_directory(request, tmp_path / "whole", evaluator=attention).diagnosis
    assert again.to_dict() == whole.to_dict()


def test_known_results_are_not_measured_again(request_for, tmp_path):
    request = request_for()
    assert diagnose_model_directory(request, tmp_path / "out").written
    assert diagnose_model_directory(request, tmp_path / "out").written == ()
    assert diagnose_model_directory(dataclasses.replace(request, num_sequences=2), tmp_path / "out").written


def test_a_length_below_the_window_is_refused(request_for, tmp_path):
    with pytest.raises(UsageError, match="--max-length must be at least W = 16, got 8"):
        diagnose_model_directory(dataclasses.replace(request_for(), max_length=8), tmp_path / "out")


def test_a_foreign_model_has_the_parts_that_need_predictions_only(request_for, tmp_path, tiny_data):
    transformers = pytest.importorskip("transformers")
    vocab_size = json.loads((tiny_data / "manifest.json").read_text())["vocab_size"]
    config = transformers.GPT2Config(
        vocab_size=vocab_size, n_embd=16, n_layer=1, n_head=2, n_positions=40, bos_token_id=0, eos_token_id=1
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    shutil.copy(tiny_data / "tokenizer.json", tmp_path / "gpt2")
    request = EvaluationRequest(path=tmp_path / "gpt2", data=tiny_data, bos="never", **SIZES)
    plans = []
    diagnosis = diagnose_model_directory(
        request, tmp_path / "out", evaluator=tmp_path / "gpt2", announce=plans.append
    ).diagnosis
    assert plans[0].seconds["key_tokens"] == 0, "the cost of a part that is left out"
    assert "layout of its state" in diagnosis.left_out["state"]
    assert diagnosis.left_out["beyond"] == "the model has 40 positions, so everything ends there"
    assert "the evaluator has 40 positions" in diagnosis.left_out["key_tokens"]
    assert [item["label"] for item in diagnosis.memory] == [1, 2]
    assert diagnosis.perplexity[0]["ppl"] > 1


def test_the_last_tokens_before_a_position_are_those_that_remain(tiny_data, tmp_path):
    """A model that uses the last five tokens has an effective memory of five at every position."""
    split = open_split(tiny_data, "validation")
    model = LastTokens(5)
    model.vocab_size = split.vocab_size
    job = SimpleNamespace(model=model, split=split, window=16, bos="never", key="key", facts={})
    diagnoser = measure.Diagnoser(job, training=None, evaluator=None, max_length=80, num_sequences=8)
    memory = diagnoser._memory(measure.NllBlocks.beside(tmp_path, "key"), lambda _: None)
    assert [item["effective"] for item in memory] == [5, 5, 5]
