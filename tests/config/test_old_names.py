"""Keys and words of version 0.1.0 are read in every layer, and obey the order of the layers."""

from __future__ import annotations

import pytest

from tttkit.config.layers import Choices, collect_layers, merge_layers, origins
from tttkit.config.old_names import present_key, with_present_names
from tttkit.config.run import build_config
from tttkit.errors import UsageError

OLD = {
    "carry": "lanes", "carry_from": 0.5, "carry_decay": 0.8, "carry_reset": 0.1, "carry_fresh_share": 0.2,
}  # fmt: skip
NEW = {
    "initial_state": "contiguous", "initial_state_from": 0.5, "initial_state_decay": 0.8, "initial_state_reset": 0.1,
    "initial_state_zero_share": 0.2,
}  # fmt: skip


def test_a_configuration_of_version_0_1_0_is_read():
    assert build_config({"train": OLD}) == build_config({"train": NEW})
    assert build_config({"preset": "quick-lanes"}).preset == "quick-contiguous"
    assert {present_key(f"train.{key}") for key in OLD} == {f"train.{key}" for key in NEW}
    values = {"train": OLD}
    with_present_names(values)
    assert values == {"train": OLD}, "the values themselves are left alone"


def test_one_setting_under_both_names_is_refused():
    with pytest.raises(UsageError, match=r"train\.carry is the old name of train\.initial_state"):
        with_present_names({"train": {"carry": "none", "initial_state": "contiguous"}})


@pytest.mark.parametrize(
    ("file", "variable", "assignment", "expected", "origin"),
    [
        ('carry = "lanes"', None, None, "contiguous", "file"),
        ('carry = "lanes"', "zero", None, "zero", "TTTKIT_SET_TRAIN__INITIAL_STATE"),
        ('initial_state = "contiguous"', None, "train.carry=none", "zero", "--set"),
        ('carry = "none"', None, "train.initial_state=contiguous", "contiguous", "--set"),
    ],
)
def test_old_and_new_names_obey_the_order_of_the_layers(tmp_path, file, variable, assignment, expected, origin):
    path = tmp_path / "run.toml"
    path.write_text(f"[train]\n{file}\n")
    choices = Choices(
        file=path,
        environment={"TTTKIT_SET_TRAIN__INITIAL_STATE": variable} if variable else {},
        assignments=(assignment,) if assignment else (),
    )
    layers = collect_layers(choices)
    config = build_config(merge_layers(layers))
    assert config.train.initial_state == expected
    origin_of = origins(config.to_dict(), layers)["train.initial_state"]
    assert origin_of == (str(path) if origin == "file" else origin)


def test_an_old_variable_wins_over_the_preset():
    choices = Choices(preset="quick-lanes", environment={"TTTKIT_SET_TRAIN__CARRY_DECAY": "0.7"})
    assert build_config(merge_layers(collect_layers(choices))).train.initial_state_decay == 0.7
