"""Layers: defaults < preset < file < environment < flags and `--set`."""

from __future__ import annotations

import pytest

from tttkit.config.layers import MODEL_SIZES, Choices, collect_layers, difference, merge_layers, origins
from tttkit.config.run import build_config
from tttkit.errors import UsageError


def test_each_layer_overrides_the_one_before(tmp_path):
    file = tmp_path / "run.toml"
    # Some editors put a byte-order mark in front.
    file.write_text("\ufeff[train]\nseed = 1\nwindow = 32\nbatch_size = 2\nmax_steps = 3\n")
    environment = {"TTTKIT_SET_TRAIN__WINDOW": "48", "TTTKIT_SET_TRAIN__BATCH_SIZE": "3", "HOME": "/"}
    choices = Choices(
        file=file, environment=environment, flags={"batch_size": 4, "max_steps": 5},
        assignments=("train.max_steps=6", "train.max_steps=7"),
    )  # fmt: skip
    layers = collect_layers(choices)
    config = build_config(merge_layers(layers))
    train = config.train
    assert (train.seed, train.window, train.batch_size, train.max_steps, train.save_every) == (1, 48, 4, 7, 100)
    origin_of = origins(config.to_dict(), layers)
    assert [origin_of[f"train.{key}"] for key in ("seed", "window", "batch_size", "max_steps", "save_every")] == [
        str(file), "TTTKIT_SET_TRAIN__WINDOW", "--batch-size", "--set", "preset quick",
    ]  # fmt: skip
    assert origin_of["optimizer.beta1"] == "default"


def test_the_preset_of_the_command_line_wins_over_the_preset_of_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('preset = "window-128"\n')
    assert collect_layers(Choices(file=file))[0].origin == "preset window-128"
    assert collect_layers(Choices(file=file, preset="quick"))[0].origin == "preset quick"


@pytest.mark.parametrize("size", MODEL_SIZES)
def test_sizes_of_the_official_table(size):
    model = build_config(merge_layers(collect_layers(Choices(model_size=size, model="ttt-mlp")))).model
    assert (model.hidden_size, model.ttt_layer_type) == (
        {"125m": 768, "350m": 1024, "760m": 1536, "1b": 2048}[size], "mlp",
    )  # fmt: skip


def test_an_unknown_size_lists_the_known_ones():
    with pytest.raises(UsageError, match="unknown model size `125`") as error:
        collect_layers(Choices(model_size="125"))
    assert error.value.hint == "did you mean `125m`? sizes: 125m, 350m, 760m, 1b"


def test_difference_names_every_changed_value():
    left, right = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5, "d": 3}, "e": 0}
    assert difference(left, right) == ["b.c: 2 -> 5", "e: None -> 0"]


@pytest.mark.parametrize("variable", ["TTTKIT_SET_", "TTTKIT_SET_TRAIN__", "TTTKIT_SET___WINDOW"])
def test_a_variable_that_names_no_setting_is_named(variable):
    with pytest.raises(UsageError, match=f"environment variable {variable} names no setting"):
        collect_layers(Choices(environment={variable: "1"}))
