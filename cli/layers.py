"""The layers that a configuration comes from, each with its origin: preset < file < environment < flags and --set."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.errors import UsageError

SECTION_OF = {
    "window": "train",
    "max_steps": "train",
    "batch_size": "train",
    "grad_accumulation": "train",
    "precision": "train",
    "seed": "train",
    "device": "train",
    "keep_weights": "train",
    "save_every": "train",
    "initial_state": "train",
    "learning_rate": "optimizer",
    "warmup_ratio": "optimizer",
    "weight_decay": "optimizer",
    "max_grad_norm": "optimizer",
    "num_eval_checkpoints": "evaluation.num_checkpoints",
    "eval_max_length": "evaluation.max_length",
    "eval_num_sequences": "evaluation.num_sequences",
    "sw_mode": "evaluation",
    "early_stop_patience": "early_stopping.patience",
    "early_stop_min_delta": "early_stopping.min_delta",
    "early_stop": "early_stopping.enabled",
}
"""Where a flag's value belongs: a section, or a section and a key where that is named otherwise."""
MODEL_SIZES = ("125m", "350m", "760m", "1b")
_VARIABLE_PREFIX = "TTTKIT_SET_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line was told about the configuration; None is what it was not told."""

    config: Path | None = None
    preset: str | None = None
    data: Path | None = None
    model: str | None = None
    model_size: str | None = None
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values by the names of SECTION_OF."""
    assignments: tuple[str, ...] = ()


def collect_layers(request: Request, environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """(origin, values) from the weakest layer to the strongest. Raises UsageError."""
    from tttkit.config.layers import load_toml, parse_assignment
    from tttkit.config.model import name_to_fields
    from tttkit.config.presets import preset_values

    from_file = load_toml(request.config) if request.config else {}
    preset = request.preset or from_file.get("preset") or "quick"
    layers = [(f"preset {preset}", preset_values(preset))]
    if request.config:
        layers.append((str(request.config), from_file))
    for variable in sorted(environment):
        if variable.startswith(_VARIABLE_PREFIX):  # TTTKIT_SET_TRAIN__MAX_STEPS=100
            key = variable.removeprefix(_VARIABLE_PREFIX).lower().replace("__", ".")
            layers.append((variable, parse_assignment(f"{key}={environment[variable]}")))
    if request.model_size is not None:
        layers.append(("--model-size", {"model": _size(request.model_size)}))
    if request.model is not None:
        layers.append(("--model", {"model": name_to_fields(request.model)}))
    if request.data is not None:
        layers.append(("--data", {"data": {"path": str(request.data)}}))
    for name, value in request.flags.items():
        section, _, key = SECTION_OF[name].partition(".")
        layers.append((f"--{name.replace('_', '-')}", {section: {key or name: value}}))
    return [*layers, *(("--set", parse_assignment(assignment)) for assignment in request.assignments)]


def merge_layers(layers: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The values of all layers, later ones winning."""
    from tttkit.config.layers import merge

    values: dict[str, Any] = {}
    for _, layer in layers:
        values = merge(values, layer)
    return values


def resolved_values(values: dict[str, Any]) -> dict[str, Any]:
    """What `train` would use, validated: the vocabulary is None where the data decides it. Raises UsageError."""
    from tttkit.config.run import build_config

    config = build_config(values)
    resolved = config.to_dict()
    if "vocab_size" not in values.get("model", {}):
        resolved["model"]["vocab_size"] = None
    if config.model.attends_to_window:
        resolved["model"]["sliding_window"] = config.train.window
    return resolved


def _size(name: str) -> dict[str, Any]:
    from tttkit.config.model import ModelConfig

    if name not in MODEL_SIZES:
        near = difflib.get_close_matches(name, MODEL_SIZES, n=1)
        guess = f"did you mean `{near[0]}`? " if near else ""
        raise UsageError(f"unknown model size `{name}`", hint=f"{guess}sizes: {', '.join(MODEL_SIZES)}")
    sizes = ModelConfig.preset(f"official-{name}").to_dict()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {name: sizes[name] for name in names}
