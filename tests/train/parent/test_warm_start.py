"""`init_from`: what a warm-started run takes, records and refuses, and that it needs its source no more."""

from __future__ import annotations

import pytest
import torch

from tests.models.small import ARCHITECTURES
from tests.training import train
from tttkit.analyze.compare import compare
from tttkit.analyze.record import load
from tttkit.config.model import ModelConfig
from tttkit.errors import DataError, UsageError
from tttkit.health.status import read_status
from tttkit.integrations.export import export_to_hugging_face
from tttkit.models import build_model, load_model
from tttkit.models.digest import weights_sha256
from tttkit.models.storage import save_model
from tttkit.run.directory import RunDirectory
from tttkit.storage import files
from tttkit.train.parent.source import read_source


class KilledError(Exception):
    """Simulates a kill."""


def killed_at(step):
    """Kill a run once `step` is logged; 0 means before its first evaluation."""

    def report(event):
        if event["event"] == ("step" if step else "evaluating") and event.get("step") == step:
            raise KilledError

    return report


def weights(run):
    return (run.path / "final_model" / "model.safetensors").read_bytes()


@pytest.fixture
def source(tiny_values, tmp_path):
    return train(tiny_values(), tmp_path / "source").run


@pytest.mark.parametrize("fields", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_every_architecture_starts_with_the_weights_of_a_run(tiny_values, tmp_path, fields):
    values = tiny_values(
        model={"num_hidden_layers": 2, "sliding_window": 6, **fields},
        train={"max_steps": 2}, evaluation={"num_checkpoints": 0},
    )  # fmt: skip
    run = train(values, tmp_path / "source").run
    nothing = {**values, "train": {**values["train"], "max_steps": 0, "seed": 7}}
    warm = train(nothing, tmp_path / "warm", init_from=str(run.path)).run
    assert weights(warm) == weights(run)
    parent = warm.read_metadata()["parent"]
    assert parent["weights_sha256"] == weights_sha256(load_model(run.final_model))
    assert (parent["past_tokens"], parent["initial_values"], parent["changes"]) == (2 * 4 * 16, [], [])


@pytest.mark.parametrize("place", ["", "final_model", "best_model", "state/step_12", "@8"])
def test_every_kind_of_source_is_read(source, tiny_values, tmp_path, place):
    name = f"{source.path}{place}" if place.startswith("@") else str(source.path / place)
    found = read_source(name)
    assert found.past_tokens == (8 if place == "@8" else 12) * 4 * 16
    run = train(tiny_values(train={"max_steps": 1}), tmp_path / "warm", init_from=name).run
    assert run.read_metadata()["parent"]["weights_sha256"] == found.weights_sha256


@pytest.mark.parametrize("from_hub", [False, True])
def test_a_model_of_ours_in_a_directory_for_transformers_is_read(source, tiny_values, tmp_path, monkeypatch, from_hub):
    exported = tmp_path / "exported"
    export_to_hugging_face(source.final_model, exported)
    asked = []

    def download(name):
        asked.append(name)
        return exported

    monkeypatch.setattr("tttkit.models.hugging_face.hub.download", download)
    name = "hf:somebody/model@main" if from_hub else str(exported)
    run = train(tiny_values(train={"max_steps": 0}), tmp_path / "warm", init_from=name).run
    assert weights(run) == weights(source)
    parent = run.read_metadata()["parent"]
    assert (parent["path"], parent["past_tokens"]) == (name, 12 * 4 * 16)
    assert asked == (["somebody/model@main"] if from_hub else [])
    assert train(tiny_values(train={"max_steps": 0}), run.path, init_from=name).already_ended


@pytest.mark.parametrize("step", [0, 1, 7])
def test_a_killed_run_continues_without_its_source(source, tiny_values, tmp_path, step):
    whole = train(tiny_values(), tmp_path / "whole", init_from=str(source.final_model)).run
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(tiny_values(), out, init_from=str(source.final_model), report=killed_at(step))
    source.path.rename(tmp_path / "moved")
    again = train(tiny_values(), out, init_from=str(source.final_model)).run
    assert weights(again) == weights(whole)
    assert [item["loss"] for item in again.read_metrics()] == [item["loss"] for item in whole.read_metrics()]


def test_a_deeper_model_keeps_its_further_layers_and_names_them(source, tiny_values, tmp_path):
    events = []
    deeper = tiny_values(model={"num_hidden_layers": 2}, train={"max_steps": 0})
    fresh = load_model(train(deeper, tmp_path / "fresh").run.final_model)
    run = train(deeper, tmp_path / "warm", init_from=str(source.path), report=events.append).run
    warm, old = (load_model(each.final_model).state_dict() for each in (run, source))
    for name, tensor in warm.items():
        assert torch.equal(tensor, old[name] if name in old else fresh.state_dict()[name]), name
    kept = run.read_metadata()["parent"]["initial_values"]
    assert kept == sorted(set(warm) - set(old))
    said = [event["message"] for event in events if event["event"] == "warning"]
    assert any(f"model.layers.1 ({len(kept)} tensors) keep their initial values" in line for line in said)
    assert any("num_hidden_layers: 1 -> 2" in line for line in said)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"hidden_size": 32}, "model.embed_tokens.weight has the shape"),
        ({"intermediate_size": 48}, "model.layers.0.mlp.*has the shape"),
        ({"architecture": "transformer"}, "has the tensor model.layers.0.seq_modeling_block"),
    ],
)
def test_weights_that_do_not_fit_are_refused(source, tiny_values, tmp_path, fields, match):
    with pytest.raises(DataError, match=match) as error:
        train(tiny_values(model=fields), tmp_path / "warm", init_from=str(source.path))
    assert error.value.exit_code == 65
    assert not (tmp_path / "warm").exists()


def test_another_vocabulary_is_refused(source, tiny_values, tmp_path):
    config = files.read_json(source.final_model / "config.json")
    model = tmp_path / "model"
    model.mkdir()
    save_model(build_model(ModelConfig.from_official({**config, "vocab_size": 290})), model)
    with pytest.raises(DataError, match=r"embed_tokens.weight has the shape \(290, 16\)") as error:
        train(tiny_values(), tmp_path / "warm", init_from=str(model))
    assert "the vocabularies differ" in error.value.hint


def test_another_tokenizer_of_the_same_size_is_refused(source, tiny_values, tmp_path):
    config = files.read_json(source.final_model / "config.json")
    files.remove_tree(source.final_model / "MANIFEST.json")
    files.write_json(source.final_model / "config.json", {**config, "tokenizer_sha256": "0" * 64})
    with pytest.raises(DataError, match="was trained with tokenizer 000000000000"):
        train(tiny_values(), tmp_path / "warm", init_from=str(source.final_model))


def test_damaged_weights_are_refused(source, tiny_values, tmp_path):
    path = source.final_model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="model.safetensors"):
        train(tiny_values(), tmp_path / "warm", init_from=str(source.final_model))


def test_another_source_for_a_run_that_exists_is_refused(source, tiny_values, tmp_path):
    with pytest.raises(UsageError, match="was started from initial weights, not from"):
        train(tiny_values(), source.path, init_from=str(source.final_model))
    run = train(tiny_values(), tmp_path / "warm", init_from=str(source.final_model)).run
    with pytest.raises(UsageError, match="was started from .*final_model, not from"):
        train(tiny_values(), run.path, init_from=str(source.best_model))


def test_tokens_of_the_past_are_counted_and_said(source, tiny_values, tmp_path):
    run = train(tiny_values(), tmp_path / "warm", init_from=str(source.path)).run
    longer = train(tiny_values(train={"max_steps": 24}, evaluation={"num_checkpoints": 7}), tmp_path / "longer").run
    again = train(tiny_values(train={"max_steps": 1}), tmp_path / "again", init_from=str(run.final_model)).run
    assert again.read_metadata()["parent"]["past_tokens"] == 24 * 4 * 16
    comparison = compare([load(RunDirectory(each.path)) for each in (longer, run)])
    assert [row["tokens"] for row in comparison.equal_tokens] == [24 * 4 * 16] * 2
    assert [row["of them before the run"] for row in comparison.equal_tokens] == [None, 12 * 4 * 16]
    (parent,) = [row for row in comparison.config_differences if row["setting"] == "parent"]
    assert "768 tokens" in parent["warm"]
    assert "768 tokens" in read_status(run).parent
