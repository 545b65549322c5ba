"""Fields describe themselves; help and documentation are made from their descriptions."""

from __future__ import annotations

import pytest

from tttkit.config.fields import describe_fields, describe_sections
from tttkit.config.flags import FLAGS, option_name
from tttkit.config.layers import flatten
from tttkit.config.run import Config


def test_every_field_of_the_configuration_is_described():
    fields = describe_fields()
    assert list(fields) == list(flatten(Config().to_dict()))
    silent = [key for key, field in fields.items() if not field.help.endswith((".", ")"))]
    assert silent == []
    assert set(describe_sections()) == {key.partition(".")[0] for key in fields} - {"preset"}


@pytest.mark.parametrize(
    ("key", "value_type", "choices"),
    [
        ("train.max_steps", int, ()),
        ("train.device", str, ()),
        ("train.precision", str, ("fp32", "bf16")),
        ("train.keep_weights", bool, ()),
        ("train.initial_state", str, ("zero", "contiguous", "passed", "fitted", "gaussian")),
        ("train.initial_state_decay", str, ()),
        ("train.stages", list, ()),
        ("optimizer.learning_rate", float, ()),
    ],
)
def test_types_and_choices_come_from_the_annotation(key, value_type, choices):
    field = describe_fields()[key]
    assert (field.type, field.choices) == (value_type, choices)


def test_every_flag_sets_a_field():
    assert set(FLAGS.values()) <= set(describe_fields())
    assert len(set(FLAGS.values())) == len(FLAGS)
    assert option_name("num_eval_checkpoints") == "--num-eval-checkpoints"
