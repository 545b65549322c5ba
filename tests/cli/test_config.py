"""`tttkit config show`: the values that `tttkit train` would use, and where each of them comes from."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import SMALL, run_process, tttkit
from tttkit.config.presets import PRESET_NAMES, preset_values
from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import build_config


def test_it_shows_what_train_would_use(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[train]\nseed = 5\n")
    assert tttkit("config", "show", file).out == tttkit("train", file, "--dry-run").out
    assert json.loads(tttkit("config", "show", "--json").out) == json.loads(tttkit("train", "--dry-run", "--json").out)


def test_the_origin_of_each_value(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[train]\nseed = 5\nwindow = 32\nbatch_size = 2\n[data]\nsource = "text"\n')
    arguments = ["config", "show", file, "--origin", "--set", "train.window=128"]
    result = run_process(*arguments, env={"TTTKIT_SET_TRAIN__BATCH_SIZE": "8"})
    assert result.code == 0
    lines = result.out.splitlines()
    for expected in (
        "window = 128  # --set", "batch_size = 8  # TTTKIT_SET_TRAIN__BATCH_SIZE", f"seed = 5  # {file}",
        "max_steps = 800  # preset quick", "weight_decay = 0.1  # default", f'source = "text"  # {file}',
        "# device is not set  # default",
    ):  # fmt: skip
        assert expected in lines
    values = json.loads(run_process(*arguments, "--json", env={"TTTKIT_SET_TRAIN__BATCH_SIZE": "8"}).out)
    assert values["train.window"] == {"value": 128, "origin": "--set"}
    assert values["optimizer.weight_decay"]["origin"] == "default"


def test_the_output_with_origins_is_a_configuration_file(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(tttkit("config", "show", "--preset", "window-128", "--origin").out)
    assert tttkit("config", "show", file).out == tttkit("config", "show", "--preset", "window-128").out


def test_values_from_the_data_or_the_window_are_not_invented(tmp_path):
    """The vocabulary comes from the data: `train` would refuse a file with an invented value."""
    assert "vocab_size" not in tttkit("config", "show").out
    assert "# vocab_size is not set  # taken from the data" in tttkit("config", "show", "--origin").out.splitlines()
    assert json.loads(tttkit("config", "show", "--json").out)["model"]["vocab_size"] is None
    assert "vocab_size = 300\n" in tttkit("config", "show", "--set", "model.vocab_size=300").out
    windowed = tttkit("config", "show", "--preset", "sw-125m", "--set", "train.window=128").out
    assert "sliding_window = 128\n" in windowed


def test_train_takes_what_it_shows(tiny_data, tmp_path):
    file = tmp_path / "shown.toml"
    file.write_text(tttkit("train", "--data", tiny_data, *SMALL, "--max-steps=1", "--dry-run").out)
    result = tttkit("train", file, "--out", tmp_path / "run", "--quiet")
    assert result.code == 0, result.err


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_it_shows_the_model_that_a_run_builds(preset):
    """This includes the decay of the recurrent state, which the preset sets in the section `train`."""
    shown = json.loads(tttkit("config", "show", "--preset", preset, "--json").out)
    facts = Facts(vocab_size=300, device="cpu")
    used = resolve_config(build_config(preset_values(preset)), facts).to_dict()
    assert {**used["model"], "vocab_size": None} == shown["model"]
    dry = json.loads(tttkit("train", "--preset", preset, "--dry-run", "--json").out)
    assert dry == shown
    if preset.endswith("-contiguous"):
        assert (shown["model"]["state_decay"], shown["model"]["decay_window"]) == (0.9, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "curriculum-10k"], "did you mean `curriculum-100k`?"),
        (["--set", "train.windw=1"], "did you mean `train.window`"),
        (["nowhere.toml"], "no such configuration file"),
        (["--orign"], "--origin"),
    ],
)
def test_near_misses(arguments, message):
    result = tttkit("config", "show", *arguments)
    assert result.code == 2
    assert message in result.error
