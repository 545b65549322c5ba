"""One rule fills in the values that data and machine decide, for `train`, `--dry-run` and `config show` alike."""

from __future__ import annotations

import pytest

from tttkit.config.presets import PRESET_NAMES, preset_values
from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import Config, build_config
from tttkit.errors import UsageError


@pytest.mark.parametrize("facts", [Facts(), Facts(vocab_size=300, device="cuda:1"), Facts(device="cpu")])
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_resolving_twice_changes_nothing_and_survives_a_file(name, facts):
    resolved = resolve_config(build_config(preset_values(name)), facts)
    assert resolve_config(resolved, facts) == resolved
    assert resolve_config(build_config(resolved.to_dict()), facts) == resolved


@pytest.mark.parametrize("vocab_size", [None, 300])
def test_the_vocabulary_is_taken_from_the_data(vocab_size):
    config = build_config({"model": {"vocab_size": vocab_size}})
    assert resolve_config(config, Facts()).to_dict()["model"]["vocab_size"] == vocab_size
    assert resolve_config(config, Facts(vocab_size=300)).model.vocab_size == 300
    assert resolve_config(Config(), Facts(vocab_size=300)).model.vocab_size == 300


def test_a_vocabulary_size_that_differs_from_the_data_is_refused():
    with pytest.raises(UsageError, match="vocab_size is 299, but the data's tokenizer has 300") as error:
        resolve_config(build_config({"model": {"vocab_size": 299}}), Facts(vocab_size=300))
    assert "remove model.vocab_size" in error.value.hint


@pytest.mark.parametrize(
    ("train", "known_device", "device", "precision"),
    [
        ({}, None, None, None),
        ({}, "cpu", "cpu", "fp32"),
        ({}, "cuda:0", "cuda:0", "bf16"),
        ({"device": "cpu"}, None, "cpu", "fp32"),
        ({"device": "cuda"}, "cuda", "cuda", "bf16"),
        ({"precision": "fp32"}, "cuda", "cuda", "fp32"),
        ({"precision": "bf16"}, None, None, "bf16"),
    ],
)
def test_precision_follows_the_device(train, known_device, device, precision):
    resolved = resolve_config(build_config({"train": train}), Facts(device=known_device)).train
    assert (resolved.device, resolved.precision) == (device, precision)


def test_a_sliding_window_model_attends_over_the_training_window():
    values = {"model": {"architecture": "sw"}, "train": {"window": 128}}
    assert resolve_config(build_config(values), Facts()).model.sliding_window == 128


@pytest.mark.parametrize(("decay", "share", "is_learned"), [(0.5, 0.5, False), ("learned", 0.9, True)])
def test_the_model_decays_as_the_initial_state_says(decay, share, is_learned):
    train = {"window": 32, "initial_state": "contiguous", "initial_state_decay": decay}
    model = resolve_config(build_config({"train": train}), Facts()).model
    assert (model.state_decay, model.learn_state_decay, model.decay_window) == (share, is_learned, 32)


def test_no_model_is_built_before_its_vocabulary_is_known():
    from tttkit.models import build_model

    with pytest.raises(ValueError, match="vocab_size of at least 1, got 0"):
        build_model(resolve_config(Config(), Facts(device="cpu")).model)
