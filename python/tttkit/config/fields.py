"""Describe the fields of the configuration by key, type, default and meaning, for help texts and documentation."""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tttkit.config.run import Config, StageConfig

_TYPE_NAMES: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    list[str]: "list of names",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldDescription:
    """One setting of the configuration."""

    key: str
    """Dotted key, `section.name`."""
    type: type[Any]
    """The type of a value on the command line: int, float, str, bool or list; a choice is a str."""
    choices: tuple[str, ...]
    """Words that the field accepts; empty if any value of the type is valid."""
    values: str
    """Valid values in words, such as `integer, at least 1`."""
    default: Any
    """Value if no layer sets the field; None means that the data or the machine decides."""
    help: str
    """The docstring of the field."""


@cache
def describe_sections() -> dict[str, str]:
    """Return the docstring of each section, in the order of the configuration."""
    return {name: type(value).__doc__ or "" for name, value in _sections(Config()).items()}


@cache
def describe_fields() -> dict[str, FieldDescription]:
    """Return all settings by their dotted keys, in the order of the configuration; `preset` is the first."""
    config = Config()
    defaults = config.to_dict()
    described = {"preset": _describe("preset", Config, "preset", defaults["preset"])}
    for section, value in _sections(config).items():
        for field in dataclasses.fields(value):
            key = f"{section}.{field.name}"
            described[key] = _describe(key, type(value), field.name, defaults[section][field.name])
    return described


@cache
def describe_stage() -> list[FieldDescription]:
    """Return the settings of one entry of `train.stages`, in order. Both are required, so their defaults are None."""
    names = [field.name for field in dataclasses.fields(StageConfig)]
    return [_describe(f"train.stages.{name}", StageConfig, name, None) for name in names]


def _sections(config: Config) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}


def _describe(key: str, owner: Any, name: str, default: Any) -> FieldDescription:
    field = owner.__pydantic_fields__[name]
    value_type, choices = _value_type(field.annotation)
    text = " ".join((field.description or "").split())
    values = _values(field.annotation, field.metadata)
    return FieldDescription(key=key, type=value_type, choices=choices, values=values, default=default, help=text)


def _value_type(annotation: Any) -> tuple[type[Any], tuple[str, ...]]:
    """Return the plain type of an annotation and its choices; a number that may be a word is a str without choices."""
    if get_origin(annotation) is Annotated:
        return _value_type(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        members = [_value_type(member) for member in get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else (str, ())
    return get_origin(annotation) or annotation, ()


def _values(annotation: Any, constraints: list[Any]) -> str:
    """Describe the valid values of an annotation in words."""
    if get_origin(annotation) is Annotated:
        plain, field = get_args(annotation)
        return _values(plain, field.metadata)
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return ", or ".join(_values(member, constraints) for member in members)
    bounds = [
        f", {_BOUNDS[name]} {getattr(item, name):g}" for item in constraints for name in _BOUNDS if hasattr(item, name)
    ]
    return _TYPE_NAMES.get(annotation, "list of tables") + "".join(bounds)
