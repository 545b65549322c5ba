"""Merge the layers of a configuration: defaults < preset < TOML file < environment < flags and `--set`.

Layers are nested plain values; `config.run.build_config` validates the merged result.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tttkit.config.flags import FLAGS, option_name
from tttkit.config.model import ModelConfig, name_to_fields
from tttkit.config.old_names import with_present_names
from tttkit.config.presets import preset_values
from tttkit.errors import UsageError

MODEL_SIZES = ("125m", "350m", "760m", "1b")
_VARIABLE_PREFIX = "TTTKIT_SET_"


class Layer(NamedTuple):
    """Nested values and the place where the user set them."""

    origin: str
    values: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """The user's choices; None or empty if the user chose nothing."""

    file: Path | None = None
    """TOML file with sections of the configuration."""
    preset: str | None = None
    base: Layer | None = None
    """Values to start from in place of those of a preset."""
    data: Path | None = None
    """DATA directory."""
    model: str | None = None
    """One of `config.model.MODEL_NAMES`."""
    model_size: str | None = None
    """One of MODEL_SIZES."""
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values by the names in `config.flags.FLAGS`."""
    assignments: tuple[str, ...] = ()
    """`section.key=value`, in order."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Environment variables; only names such as TTTKIT_SET_SECTION__KEY count."""


def collect_layers(choices: Choices) -> list[Layer]:
    """Return the layers from the weakest to the strongest, with keys under their present names. Raises UsageError."""
    from_file = load_toml(choices.file) if choices.file else {}
    preset = choices.preset or from_file.get("preset") or "quick"
    if choices.base is None:
        layers = [Layer(f"preset {preset}", preset_values(preset))]
    elif choices.preset is not None:
        raise UsageError(
            "--preset and --branch-from exclude each other", hint="set single values with options or --set"
        )
    else:
        layers = [choices.base]
    if choices.file:
        layers.append(Layer(str(choices.file), from_file))
    for variable in sorted(choices.environment):
        if variable.startswith(_VARIABLE_PREFIX):  # TTTKIT_SET_TRAIN__MAX_STEPS=100
            key = variable.removeprefix(_VARIABLE_PREFIX).lower().replace("__", ".")
            if not all(key.split(".")):
                raise UsageError(
                    f"the environment variable {variable} names no setting",
                    hint=f"example: {_VARIABLE_PREFIX}OPTIMIZER__LEARNING_RATE=1e-3",
                )
            layers.append(Layer(variable, parse_assignment(f"{key}={choices.environment[variable]}")))
    if choices.model_size is not None:
        layers.append(Layer("--model-size", {"model": _size_values(choices.model_size)}))
    if choices.model is not None:
        layers.append(Layer("--model", {"model": name_to_fields(choices.model)}))
    if choices.data is not None:
        layers.append(Layer("--data", {"data": {"path": str(choices.data)}}))
    for flag, value in choices.flags.items():
        section, _, name = FLAGS[flag].partition(".")
        layers.append(Layer(option_name(flag), {section: {name: value}}))
    layers += [Layer("--set", parse_assignment(assignment)) for assignment in choices.assignments]
    return [Layer(layer.origin, with_present_names(layer.values)) for layer in layers]


def merge_layers(layers: list[Layer]) -> dict[str, Any]:
    """Merge the values of all layers; later layers override earlier ones."""
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(values, layer.values)
    return values


def load_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file. Raises UsageError, which names the file and the place of the mistake."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UsageError(f"no such configuration file: {path}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge two nested dictionaries; values of `over` override values of `base`."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def parse_assignment(text: str) -> dict[str, Any]:
    """Parse `section.key=value` into a nested dictionary; a value that is not TOML is a string. Raises UsageError."""
    name, equals, raw = text.partition("=")
    keys = [part.strip() for part in name.split(".")]
    if not equals or not all(keys):
        raise UsageError(
            f"expected section.key=value, got `{text}`", hint="example: --set optimizer.learning_rate=1e-3"
        )
    try:
        value: Any = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def difference(left: dict[str, Any], right: dict[str, Any], prefix: str = "") -> list[str]:
    """Return a line `key: left -> right` for every value that differs; nested keys are joined by dots."""
    lines: list[str] = []
    for key in sorted(left.keys() | right.keys()):
        before, after = left.get(key), right.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += difference(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} -> {after}")
    return lines


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by their dotted keys, in order."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def origins(resolved: dict[str, Any], layers: list[Layer]) -> dict[str, str]:
    """Return the origin of every dotted key of `resolved`: the last layer that sets it, else `default`."""
    origin_of = dict.fromkeys(flatten(resolved), "default")
    for origin, values in layers:
        origin_of |= {key: origin for key in flatten(values) if key in origin_of}
    return origin_of


def to_toml(values: dict[str, Any], comments: dict[str, str] | None = None) -> str:
    """Write sections of plain values as TOML, each dotted key in `comments` followed by its comment.

    TOML has no null: a value of None is left out, or becomes a comment line if it has a comment.
    """
    sections = {"": {key: value for key, value in values.items() if not isinstance(value, dict)}}
    sections |= {key: value for key, value in values.items() if isinstance(value, dict)}
    lines: list[str] = []
    for section, content in sections.items():
        lines += ["", f"[{section}]"] if section else []
        for key, value in content.items():
            comment = (comments or {}).get(f"{section}.{key}" if section else key)
            if value is not None:
                lines.append(f"{key} = {toml_value(value)}" + (f"  # {comment}" if comment else ""))
            elif comment:
                lines.append(f"# {key} is not set  # {comment}")
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Return a plain value as TOML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value)


def _size_values(name: str) -> dict[str, Any]:
    if name not in MODEL_SIZES:
        near = difflib.get_close_matches(name, MODEL_SIZES, n=1)
        guess = f"did you mean `{near[0]}`? " if near else ""
        raise UsageError(f"unknown model size `{name}`", hint=f"{guess}sizes: {', '.join(MODEL_SIZES)}")
    sizes = ModelConfig.preset(f"official-{name}").to_dict()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {name: sizes[name] for name in names}
