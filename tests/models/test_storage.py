"""Model directories and official state dictionaries: round trips, and errors for damaged ones."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from tttkit.errors import DataError
from tttkit.models import from_official, load_model, read_model_config, save_model, to_official
from tttkit.storage import commits

from .small import ARCHITECTURES, random_ids, small_config, small_model


@pytest.mark.parametrize("fields", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_saved_model_loads_bit_for_bit(tmp_path, fields):
    model = small_model(**fields)
    save_model(model, tmp_path / "model", {"window": 64, "tokenizer_sha256": "ab"})
    loaded = load_model(tmp_path / "model")
    assert loaded.config == model.config
    weights = to_official(loaded)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in to_official(model).items())
    assert torch.equal(loaded(random_ids(1, 7)), model(random_ids(1, 7)))
    kept = read_model_config(tmp_path / "model")
    assert (kept["window"], kept["tokenizer_sha256"]) == (64, "ab")


def test_untied_head_is_saved(tmp_path):
    model = small_model(tie_word_embeddings=False)
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path).lm_head.weight, model.lm_head.weight)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in "ab":
        save_model(small_model(), tmp_path / name)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def write_official(directory, model, shards):
    """Write a directory as the official code does, with further keys, and the head's alias among the tensors."""
    directory.mkdir()
    fields = {**model.config.to_dict(), "model_type": "ttt", "bos_token_id": 1, "hidden_act": "silu"}
    for ours in ("architecture", "sliding_window"):
        del fields[ours]
    (directory / "config.json").write_text(json.dumps(fields))
    tensors = {**to_official(model), "lm_head.weight": model.model.embed_tokens.weight.detach().clone()}
    names = sorted(tensors)
    parts = [names[i::shards] for i in range(shards)]
    if shards == 1:
        save_file(tensors, directory / "model.safetensors")
        return
    table = {}
    for i, part in enumerate(parts):
        save_file({name: tensors[name] for name in part}, directory / f"model-{i}.safetensors")
        table.update(dict.fromkeys(part, f"model-{i}.safetensors"))
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))


@pytest.mark.parametrize("shards", [1, 3])
def test_official_directories_load(tmp_path, shards):
    model = small_model(use_gate=True)
    write_official(tmp_path / "official", model, shards)
    assert torch.equal(load_model(tmp_path / "official")(random_ids(1, 7)), model(random_ids(1, 7)))


def test_a_single_weights_file_takes_precedence_over_an_index(tmp_path):
    model = small_model()
    save_model(model, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"left": "from-before.safetensors"}}')
    assert torch.equal(load_model(tmp_path)(random_ids(1, 7)), model(random_ids(1, 7)))


def test_all_faults_of_a_state_dict_are_listed_at_once():
    config = small_config()
    weights = dict(to_official(small_model()))
    del weights["model.norm.weight"]
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 3)
    weights["extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match="3 names") as caught:
        from_official(config, weights)
    message = str(caught.value)
    assert "missing model.norm.weight (16,)" in message
    assert "unexpected extra (1,)" in message
    assert "misshaped model.layers.0.mlp.up_proj.weight: expected (24, 16), got (3, 3)" in message


def test_an_official_state_dict_is_copied():
    weights = to_official(small_model())
    model = from_official(small_config(), weights)
    weights["model.norm.weight"].zero_()
    assert model.model.norm.weight.abs().min() > 0


def damage_missing_directory(directory):
    return directory / "nowhere", "no such model directory"


def damage_missing_config(directory):
    (directory / "config.json").unlink()
    return directory, "missing file: .*config.json"


def damage_config_list(directory):
    (directory / "config.json").write_text("[]")
    return directory, "config.json must hold a JSON object, got list"


def damage_config_value(directory):
    fields = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**fields, "hidden_size": 15}))
    return directory, "config.json does not describe a model: .*hidden_size must be a multiple"


def damage_config_contradicts(directory):
    fields = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**fields, "num_hidden_layers": 1}))
    return directory, "do not fit its config.json: .*unexpected model.layers.1"


def damage_missing_weights(directory):
    (directory / "model.safetensors").unlink()
    return directory, "missing file: .*model.safetensors"


def damage_truncated(directory):
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    return directory, "model.safetensors is not a valid safetensors file"


def damage_empty(directory):
    (directory / "model.safetensors").write_bytes(b"")
    return directory, "model.safetensors is not a valid safetensors file"


def damage_index_path(directory):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    return directory, "names a file outside its directory"


def damage_index_shape(directory):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    return directory, "must hold an object `weight_map`"


@pytest.mark.parametrize(
    "damage",
    [value for name, value in sorted(globals().items()) if name.startswith("damage_")],
    ids=lambda damage: damage.__name__.removeprefix("damage_"),
)
def test_damaged_directories_name_the_file(tmp_path, damage):
    save_model(small_model(), tmp_path)
    path, message = damage(tmp_path)
    with pytest.raises(DataError, match=message):
        load_model(path)


def test_a_model_is_read_from_a_folder_with_any_name(tmp_path):
    """Latin-1 in a name is not UTF-8, which the safetensors library demands."""
    folder = tmp_path / os.fsdecode(b"nov\xe9las")
    save_model(small_model(), folder)
    assert load_model(folder).config == small_config()


def test_weights_that_differ_from_their_manifest_are_refused(tmp_path):
    """A damaged byte of a float can leave a model that runs and is wrong."""
    with commits.commit_directory(tmp_path / "model") as directory:
        save_model(small_model(), directory)
    weights = tmp_path / "model" / "model.safetensors"
    load_model(tmp_path / "model")
    damaged = bytearray(weights.read_bytes())
    damaged[-3] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(DataError, match=r"model\.safetensors does not have the SHA-256 that its manifest records"):
        load_model(tmp_path / "model")
    (tmp_path / "model" / "MANIFEST.json").unlink()
    load_model(tmp_path / "model")
