from __future__ import annotations

import dataclasses
import tomllib

import pytest

from tttkit.config.layers import load_toml, merge, parse_assignment, to_toml
from tttkit.config.model import ModelConfig, name_to_fields
from tttkit.config.presets import PRESET_NAMES, preset_values
from tttkit.config.run import Config, build_config
from tttkit.errors import UsageError


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_every_preset_builds(name):
    config = build_config(preset_values(name))
    assert config.preset == name
    assert build_config(config.to_dict()) == config


def test_the_reference_run_has_the_designed_values():
    config = build_config(preset_values("curriculum-100k"))
    train, optimizer = config.train, config.optimizer
    assert train.window * train.batch_size * train.grad_accumulation * train.max_steps == 204_800_000
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.warmup_ratio) == (3e-4, 0.1, 0.02)
    assert (config.evaluation.num_checkpoints, config.evaluation.max_length) == (50, 1280)
    assert config.early_stopping.patience == 10


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"optimiser": {}}, "unknown key `optimiser`", "did you mean `optimizer`?"),
        ({"train": {"max_step": 3}}, "unknown key `train.max_step`", "did you mean `train.max_steps`?"),
        ({"train": {"max_steps": -1}}, "train.max_steps: input should be greater than or equal to 0, got -1", None),
        ({"train": {"precision": "fp8"}}, "got 'fp8'", None),
        ({"train": {"window": 60}}, "multiple of model.mini_batch_size, got 60 and 16", None),
        ({"model": {"vocab_size": -1}}, "model.vocab_size must be at least 0, got -1", None),
        ({"early_stopping": {"min_delta": "soon"}}, "got `soon`", None),
        ({"model": {"hidden_size": 100, "num_attention_heads": 3}}, "got 100 and 3", None),
        ({"evaluation": {"max_length": 32}}, "at least train.window, got 32 and 64", None),
        ({"evaluation": {"chunk_size": 65}}, "evaluation.chunk_size must be at most train.window, got 65 and 64", None),
        ({"evaluation": {"chunk_size": 24}}, "must be a multiple of evaluation.chunk_stride, got 24 and 16", None),
        ({"evaluation": {"chunk_size": 48, "chunk_stride": 24}}, "train.window must be a multiple of", None),
        (
            {"data": {"source": "task:mqr"}},
            "unknown task `mqr`, known: mqar, copy, selective-copy, induction, passkey",
            None,
        ),
        ({"data": {"source": "task:mqr"}}, "did you mean task:mqar?", None),
        (
            {"data": {"source": "task:mqar"}, "train": {"window": 16}, "evaluation": {"num_checkpoints": 0}},
            "task:mqar needs train.window of at least 18, got 16",
            None,
        ),
        (
            {
                "data": {"source": "task:copy"},
                "train": {"stages": [{"share": 1.0, "window": 128}]},
            },
            "train.stages[0].window must be 64, the tokens of an example of task:copy, got 128",
            None,
        ),
    ],
)
def test_wrong_values_are_named(values, message, hint):
    with pytest.raises(UsageError) as error:
        build_config(values)
    assert message in str(error.value)
    assert error.value.hint == hint
    assert error.value.exit_code == 2


def test_chunks_may_be_as_long_as_the_window_and_longer_without_evaluations():
    assert build_config({"evaluation": {"chunk_size": 64}}).evaluation.chunk_size == 64
    assert build_config({"evaluation": {"chunk_size": 65, "num_checkpoints": 0}}).evaluation.chunk_size == 65


def test_unknown_names_list_the_known_ones():
    for call in (lambda: preset_values("quik"), lambda: ModelConfig.preset("big"), lambda: name_to_fields("lstm")):
        with pytest.raises(UsageError, match="unknown") as error:
            call()
        assert error.value.hint


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.window = 3


def test_layers_merge_and_toml_round_trips(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('preset = "quick"\n[train]\nmax_steps = 7\nwindow = 32\n')
    values = merge(preset_values("quick"), load_toml(file))
    values = merge(values, parse_assignment("train.max_steps=9"))
    values = merge(values, parse_assignment("train.device=cuda:1"))
    config = build_config(values)
    assert (config.train.max_steps, config.train.window, config.train.device) == (9, 32, "cuda:1")
    assert build_config(tomllib.loads(to_toml(config.to_dict()))) == config


@pytest.mark.parametrize("text", ["train.max_steps", "=3", "train..x=1", ""])
def test_bad_assignment_is_refused(text):
    with pytest.raises(UsageError, match="section.key=value"):
        parse_assignment(text)


def test_bad_toml_names_file_and_place(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[train\n")
    with pytest.raises(UsageError, match=r"bad\.toml is not valid TOML: .*line 1"):
        load_toml(file)
    with pytest.raises(UsageError, match="no such configuration file"):
        load_toml(tmp_path / "absent.toml")


def test_attention_models_have_no_inner_mini_batch():
    config = ModelConfig(architecture="sw", mini_batch_size=16)
    assert (config.mini_batch_size, config.name) == (1, "sw")
    assert ModelConfig(ttt_layer_type="mlp").name == "ttt-mlp"
