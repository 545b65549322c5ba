"""How a configuration comes together: defaults < preset < TOML file < environment < flags and `--set`.

Works on nested plain values; `config.build_config` validates what comes out.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from tttkit.errors import UsageError


def load_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file. Raises UsageError naming file and place."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"no such configuration file: {path}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, values of `over` winning."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def parse_assignment(text: str) -> dict[str, Any]:
    """`section.key=value` as a nested dictionary; the value is read as TOML, else as a string. Raises UsageError."""
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
    """Lines `key: left -> right` for every value that differs, nested keys joined by dots."""
    lines: list[str] = []
    for key in sorted(left.keys() | right.keys()):
        before, after = left.get(key), right.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += difference(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} -> {after}")
    return lines


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys, in order."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def origins(resolved: dict[str, Any], layers: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """For every dotted key of `resolved` the name of the last of the (name, values) `layers` that set it; `default`."""
    found = dict.fromkeys(flatten(resolved), "default")
    for name, values in layers:
        found |= {key: name for key in flatten(values) if key in found}
    return found


def to_toml(values: dict[str, Any], comments: dict[str, str] | None = None) -> str:
    """Sections of plain values as TOML, with a comment behind each dotted key that has one.

    What is None is left out, since TOML has no null; with comments it stands as a comment itself.
    """
    sections = {"": {key: value for key, value in values.items() if not isinstance(value, dict)}}
    sections |= {key: value for key, value in values.items() if isinstance(value, dict)}
    lines: list[str] = []
    for section, content in sections.items():
        lines += ["", f"[{section}]"] if section else []
        for key, value in content.items():
            comment = (comments or {}).get(f"{section}.{key}" if section else key)
            if value is not None:
                lines.append(f"{key} = {_toml_value(value)}" + (f"  # {comment}" if comment else ""))
            elif comment:
                lines.append(f"# {key} is not set  # {comment}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value)
