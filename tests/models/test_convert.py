"""Conversion in both directions keeps every bit; files that would run code are refused."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import torch
from safetensors.torch import load_file

from tttkit.errors import DataError, UsageError
from tttkit.models import load_model, read_model_config, save_model, to_official
from tttkit.models.convert import convert_model, read_foreign_weights

from .small import VARIANTS, small_model

OURS = {"inner_decay", "inner_momentum"}
OFFICIAL = {name: fields for name, fields in VARIANTS.items() if OURS.isdisjoint(fields)}


def same_weights(first, second):
    ours, theirs = to_official(first), to_official(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("fields", OFFICIAL.values(), ids=OFFICIAL)
def test_round_trip_is_bit_exact(tmp_path, fields, tied):
    model = small_model(**fields, tie_word_embeddings=tied)
    save_model(model, tmp_path / "ours", {"window": 16, "eos_token_id": 7})
    (tmp_path / "ours" / "tokenizer.json").write_text("{}")
    there = convert_model(tmp_path / "ours", tmp_path / "official")
    back = convert_model(tmp_path / "official", tmp_path / "again")
    assert (there.target, back.target) == ("official", "tttkit")
    again = load_model(tmp_path / "again")
    assert again.config == dataclasses.replace(model.config, sliding_window=64)  # a TTT model does not use it
    assert same_weights(again, model)
    assert read_model_config(tmp_path / "again")["window"] == 16
    assert (tmp_path / "again" / "tokenizer.json").read_text() == "{}"
    config = read_model_config(tmp_path / "official")
    assert (config["model_type"], config["architectures"]) == ("ttt", ["TTTForCausalLM"])
    assert "architecture" not in config
    assert ("lm_head.weight" in load_file(tmp_path / "official" / "model.safetensors")) is not tied


def write_foreign(directory, model, save):
    directory.mkdir()
    fields = {key: value for key, value in model.config.to_dict().items() if key not in ("architecture",)}
    (directory / "config.json").write_text(json.dumps({**fields, "model_type": "ttt"}))
    weights = {**to_official(model), "lm_head.weight": model.model.embed_tokens.weight.detach()}
    save(weights, directory)
    return directory


def sharded(weights, directory):
    table = {}
    for i, (name, tensor) in enumerate(weights.items()):
        torch.save({name: tensor}, directory / f"part-{i % 2}-{i}.bin")
        table[name] = f"part-{i % 2}-{i}.bin"
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))


@pytest.mark.parametrize(
    "save",
    [
        lambda weights, directory: torch.save(weights, directory / "pytorch_model.bin"),
        lambda weights, directory: torch.save({"step": 3, "model": weights}, directory / "checkpoint.pt"),
        lambda weights, directory: torch.save({"state_dict": weights}, directory / "checkpoint.pth"),
        lambda weights, directory: torch.save({"model_state_dict": weights}, directory / "checkpoint.pt"),
        sharded,
    ],
    ids=["bin", "model", "state_dict", "model_state_dict", "sharded"],
)
def test_foreign_pickles_of_tensors_are_read(tmp_path, save):
    model = small_model(use_gate=True)
    source = write_foreign(tmp_path / "foreign", model, save)
    assert same_weights(convert_model(source, tmp_path / "out").model, model)
    assert same_weights(load_model(tmp_path / "out"), model)
    with pytest.raises(DataError, match="missing file: .*model.safetensors"):
        load_model(source)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"model.{name}",
        lambda name: f"net._orig_mod.module.{name}",
        lambda name: name.removeprefix("model."),
        lambda name: name.replace("layers.0.", "layers.0._orig_mod."),
        lambda name: f"_fsdp_wrapped_module.{name}".replace("layers.0.", "layers.0._checkpoint_wrapped_module."),
    ],
    ids=["compiled", "parallel", "contained", "all", "inner", "compiled-block", "sharded"],
)
def test_prefixes_of_wrappers_are_removed(tmp_path, wrap, tied):
    model = small_model(tie_word_embeddings=tied)

    def save(weights, directory):
        if not tied:
            weights["lm_head.weight"] = to_official(model)["lm_head.weight"]
        weights["model.layers.0.seq_modeling_block.rotary_emb.inv_freq"] = torch.ones(4)
        torch.save({wrap(name): tensor for name, tensor in weights.items()}, directory / "w.pt")

    source = write_foreign(tmp_path / "foreign", model, save)
    assert same_weights(convert_model(source, tmp_path / "out").model, model)


def test_two_tensors_of_one_name_are_refused(tmp_path):
    def save(weights, directory):
        torch.save({**weights, "module.model.norm.weight": torch.ones(16)}, directory / "w.pt")

    source = write_foreign(tmp_path / "foreign", small_model(), save)
    with pytest.raises(DataError, match=r"two tensors are model.norm.weight without the prefixes of wrappers"):
        convert_model(source, tmp_path / "out")


def test_a_weights_file_is_read_with_the_config_next_to_it(tmp_path):
    model = small_model()
    save_model(model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "epoch3.safetensors")
    assert same_weights(convert_model(tmp_path / "m" / "epoch3.safetensors", tmp_path / "o", "tttkit").model, model)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_code_in_a_file_is_refused_and_never_run(tmp_path):
    canary = tmp_path / "canary"
    source = write_foreign(
        tmp_path / "bad", small_model(), lambda _, directory: torch.save({"a": Malicious(canary)}, directory / "w.pt")
    )
    with pytest.raises(DataError, match="w.pt holds more than tensors, and reading it would run its code: refused"):
        convert_model(source, tmp_path / "out")
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "w.bin is not a PyTorch weights file"),
        (b"garbage" * 50, "w.bin is not a PyTorch weights file"),
        (torch.zeros(3), "must hold a state_dict, names to tensors, got Tensor"),
        ({"a": 3}, "must hold a state_dict, names to tensors, got dict"),
        ({}, "do not fit its config.json: .*missing model.norm.weight"),
        ({"model.norm.weight": torch.zeros(16, dtype=torch.int64)}, "wrong dtype of model.norm.weight"),
    ],
    ids=["empty", "garbage", "tensor", "numbers", "none", "integers"],
)
def test_unusable_files_name_themselves(tmp_path, content, message):
    def save(_, directory):
        if isinstance(content, bytes):
            (directory / "w.bin").write_bytes(content)
        else:
            torch.save(content, directory / "w.bin")

    source = write_foreign(tmp_path / "foreign", small_model(), save)
    with pytest.raises(DataError, match=message):
        convert_model(source, tmp_path / "out")


def test_a_config_that_contradicts_the_weights_is_refused(tmp_path):
    def untied(weights, directory):
        torch.save({**weights, "lm_head.weight": weights["lm_head.weight"] + 1}, directory / "w.bin")

    source = write_foreign(tmp_path / "foreign", small_model(), untied)
    with pytest.raises(DataError, match="lm_head.weight differs from model.embed_tokens.weight, but the config ties"):
        convert_model(source, tmp_path / "out")


def test_official_defaults_stand_for_keys_that_are_left_out():
    from tttkit.models import ModelConfig

    config = ModelConfig.from_official({"model_type": "ttt", "hidden_size": 64, "num_attention_heads": 4})
    assert (config.vocab_size, config.num_hidden_layers, config.intermediate_size) == (32_000, 24, 5504)
    with pytest.raises(ValueError, match="hidden_act must be silu, got gelu"):
        ModelConfig.from_official({"hidden_act": "gelu"})
    with pytest.raises(ValueError, match="num_key_value_heads must equal num_attention_heads, got 2"):
        ModelConfig.from_official({"num_attention_heads": 4, "num_key_value_heads": 2})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "sw"}, "the official code has no `sw` model"),
        ({"state_decay": 0.9}, "does not decay its state"),
        ({"inner_decay": "head"}, "does not decay its state"),
        ({"inner_momentum": 0.5}, "the official code has no inner_momentum, but this model does"),
        ({"inner_rescale": True}, "the official code has no inner_rescale"),
        ({"inner_lr_decay": 1}, "the official code has no inner_lr_decay"),
        ({"parallel_window": True}, "the official code has no window beside its memory"),
    ],
)
def test_models_that_the_official_code_lacks_are_refused(tmp_path, fields, message):
    save_model(small_model(**fields), tmp_path / "m")
    with pytest.raises(UsageError, match=message):
        convert_model(tmp_path / "m", tmp_path / "out")


def test_existing_directories_and_unknown_files_are_refused(tmp_path):
    save_model(small_model(), tmp_path / "m")
    with pytest.raises(UsageError, match="already exists"):
        convert_model(tmp_path / "m", tmp_path / "m")
    (tmp_path / "m" / "weights.h5").touch()
    with pytest.raises(UsageError, match="weights.h5 is not a weights file"):
        convert_model(tmp_path / "m" / "weights.h5", tmp_path / "out")
    (tmp_path / "m" / "model.safetensors").unlink()
    for name in ("a.pt", "b.bin"):
        torch.save({}, tmp_path / name)
    with pytest.raises(DataError, match="holds several weights files: a.pt, b.bin") as error:
        read_foreign_weights(tmp_path)
    assert error.value.hint == "name the weights file itself"
    for name in ("a.pt", "b.bin"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="must hold model.safetensors or pytorch_model.bin"):
        convert_model(tmp_path / "m", tmp_path / "out")
