"""`tttkit eval checkpoint` on models of transformers beside ours: one table, one figure, pairs, early errors."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("transformers")

import torch
import transformers

from tests.cli.conftest import tttkit
from tests.models.small import small_model
from tttkit.models import save_model


@pytest.fixture
def models(tmp_path, tiny_data):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    save_model(small_model(vocab_size=300), tmp_path / "ours", metadata={"window": 16})
    for name in ("llama", "ours"):
        shutil.copy(tiny_data / "tokenizer.json", tmp_path / name)
    return tmp_path


SIZES = ("--window", 16, "--max-length", 80, "--num-sequences", 3, "--device", "cpu")


def test_ours_and_another_in_one_table_one_figure_and_pairs(models, tiny_data):
    answer = tttkit("eval", "checkpoint", models / "ours", models / "llama", "--data", tiny_data, *SIZES)
    assert answer.code == 0, answer.err
    assert "ratio to the full context of ours" in answer.out
    assert "no BOS in front" in " ".join(answer.out.split())
    assert (models / "models.png").exists()
    values = tttkit("eval", "checkpoint", models / "llama", models / "ours", "--data", tiny_data, *SIZES, "--json")
    assert [each["model"] for each in json.loads(values.out)] == ["llama", "ttt-linear"]
    assert "evaluated before" in values.err


def test_text_takes_the_place_of_data(models, tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("It rained and she read about ships. " * 100)
    answer = tttkit("eval", "checkpoint", models / "llama", models / "ours", "--text", text, *SIZES)
    assert answer.code == 0, answer.err
    assert "ratio to the full context of llama" in answer.out
    both = tttkit("eval", "checkpoint", models / "llama", "--text", text, "--split", "train", *SIZES)
    assert (both.code, "--text takes the place of --data and --split" in both.error) == (2, True)


def test_models_with_other_tokenizers_are_compared_by_bits_per_byte(models, tmp_path):
    path = models / "llama" / "tokenizer.json"
    values = json.loads(path.read_text())
    del values["model"]["merges"][-10:]
    path.write_text(json.dumps(values))
    text = tmp_path / "book.txt"
    text.write_text("It rained and she read about ships. " * 100)
    answer = tttkit("eval", "checkpoint", models / "llama", models / "ours", "--text", text, *SIZES)
    assert answer.code == 0, answer.err
    assert "ours and llama have different tokenizers: compare bits/byte" in answer.err
    assert "ours" not in answer.out.split("ratio to the full context")[1]


def test_errors_come_before_any_model_is_measured(models, tiny_data):
    path = models / "llama" / "tokenizer.json"
    values = json.loads(path.read_text())
    del values["model"]["merges"][-10:]
    path.write_text(json.dumps(values))
    answer = tttkit("eval", "checkpoint", models / "ours", models / "llama", "--data", tiny_data, *SIZES)
    assert (answer.code, "has another tokenizer than the data" in answer.error) == (65, True)
    assert "data prepare SOURCE --out OUT --tokenizer" in answer.error
    assert not (models / "eval_ours").exists()
    answer = tttkit("eval", "checkpoint", models / "llama", "--data", tiny_data)
    assert (answer.code, "--window W" in answer.error) == (65, False)
    shutil.copy(tiny_data / "tokenizer.json", path)
    answer = tttkit("eval", "checkpoint", models / "llama", "--data", tiny_data)
    assert (answer.code, "--window W" in answer.error) == (2, True)
    answer = tttkit("eval", "checkpoint", models / "llama", "--data", tiny_data, *SIZES, "--dtype", "fp8")
    assert (answer.code, "unknown dtype `fp8`" in answer.error) == (2, True)
    answer = tttkit("eval", "checkpoint", models / "llama", "--data", tiny_data, *SIZES, "--bos", "perhaps")
    assert (answer.code, "bos must be one of" in answer.error) == (2, True)
