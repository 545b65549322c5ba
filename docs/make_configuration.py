"""Write docs/configuration.md from the configuration itself: `python docs/make_configuration.py`.

The tables come from the fields of `tttkit.config`, so that the page cannot disagree with the program;
tests/config/test_configuration_page.py checks that the committed page is current.
"""

from __future__ import annotations

import json
from pathlib import Path

from tttkit.config.fields import FieldDescription, describe_fields, describe_sections, describe_stage
from tttkit.config.flags import FLAGS, option_name
from tttkit.config.layers import to_toml
from tttkit.config.old_names import OLD_KEYS, OLD_PRESETS
from tttkit.config.presets import PRESET_NAMES, preset_summary, preset_values

PAGE = Path(__file__).with_name("configuration.md")
OPTIONS = {key: option_name(flag) for flag, key in FLAGS.items()}

INTRODUCTION = """\
# Configuration

<!-- Written by docs/make_configuration.py. Edit the docstrings in python/tttkit/config instead. -->

A configuration is a set of values in sections. `tttkit train` merges these layers, where later layers override earlier
ones:

1. the defaults in the tables below,
2. a preset (`--preset NAME`, or `preset = "NAME"` in the file; without either, `quick`),
3. a TOML file (`tttkit train CONFIG.toml`),
4. environment variables `TTTKIT_SET_SECTION__KEY`, such as `TTTKIT_SET_TRAIN__MAX_STEPS=100`,
5. flags such as `--max-steps 100`, then `--set section.key=value`, which may be repeated and sets any value.

`tttkit config show --origin` prints the merged configuration and the layer that each value comes from. Its output is
itself a valid TOML file. Unknown keys are errors. A run directory records the resolved configuration in
`metadata.json`.

Some values are resolved from others or from facts that are known only later:

- `model.vocab_size` is the vocabulary size of the data's tokenizer. An explicit value must agree with it.
- `train.device` is the GPU if there is one, and `train.precision` follows the device.
- `model.sliding_window` is `train.window` if a layer of the model has a window.
- `model.state_decay`, `model.learn_state_decay` and `model.decay_window` follow from `train.initial_state_decay` and
  `train.window`, unless `train.initial_state_decay` is 1.

Three flags set several values or a value with another name: `--model` chooses `ttt-linear`, `ttt-mlp` or another
architecture (`model.architecture` and `model.ttt_layer_type`), `--model-size` takes the sizes of the official table
(`125m`, `350m`, `760m`, `1b`), and `--data` sets `data.path`.
"""


def page() -> str:
    """Return the whole page."""
    sections = {name: _section(name) for name in describe_sections()}
    sections["train"] += "\n" + _stages()
    return "\n".join([INTRODUCTION, *sections.values(), _presets(), _old_names()])


def _section(section: str) -> str:
    fields = [field for key, field in describe_fields().items() if key.startswith(f"{section}.")]
    return "\n".join([f"## `[{section}]`", "", describe_sections()[section], "", *_table(fields), ""])


def _stages() -> str:
    introduction = "An entry of the list `train.stages`. Both values are required."
    return "\n".join(["### `[[train.stages]]`", "", introduction, "", *_table(describe_stage()), ""])


def _table(fields: list[FieldDescription]) -> list[str]:
    head = ["| key | values | default | flag | meaning |", "|---|---|---|---|---|"]
    return head + [f"| {' | '.join(map(_escape, _cells(field)))} |" for field in fields]


def _cells(field: FieldDescription) -> list[str]:
    default = "" if field.default is None else f"`{json.dumps(field.default)}`"
    option = f"`{OPTIONS[field.key]}`" if field.key in OPTIONS else ""
    return [f"`{field.key.rpartition('.')[2]}`", field.values, default, option, field.help]


def _escape(text: str) -> str:
    return text.replace("|", r"\|")


def _presets() -> str:
    parts = ["## Presets", "", "A preset sets these values; everything else keeps its default.", ""]
    for name in PRESET_NAMES:
        values = {key: value for key, value in preset_values(name).items() if key != "preset"}
        parts += [f"### `{name}`", "", preset_summary(name), "", "```toml", to_toml(values).strip(), "```", ""]
    return "\n".join(parts)


def _old_names() -> str:
    rows = [f"| `{old}` | `{new}` |" for old, new in {**OLD_KEYS, **OLD_PRESETS}.items()]
    words = (
        "`none` and `lanes`, the old words for `zero` and `contiguous`, are read too, and `--carry` is still a flag."
    )
    introduction = "Configurations of version 0.1.0 are read; these names have changed:"
    return "\n".join(["## Old names", "", introduction, "", "| old | present |", "|---|---|", *rows, "", words, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
