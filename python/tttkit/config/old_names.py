"""Keys, presets and words of version 0.1.0 and of the earlier system, with their present names."""

from __future__ import annotations

from typing import Any

from tttkit.errors import UsageError

OLD_KEYS = {
    "train.carry": "train.initial_state",
    "train.carry_from": "train.initial_state_from",
    "train.carry_decay": "train.initial_state_decay",
    "train.carry_reset": "train.initial_state_reset",
    "train.carry_fresh_share": "train.initial_state_zero_share",
}
OLD_PRESETS = {"quick-lanes": "quick-contiguous", "curriculum-100k-lanes": "curriculum-100k-contiguous"}
_WORDS = {
    "train.initial_state": {"none": "zero", "lanes": "contiguous"},
    "train.precision": {"no": "fp32"},  # the earlier system's `--mixed_precision no`
}


def present_key(key: str) -> str:
    """Return the present name of a dotted key (`train.carry` is `train.initial_state`); other keys stay as they are."""
    return OLD_KEYS.get(key, key)


def present_preset(name: str) -> str:
    """Return the present name of a preset; other names stay as they are."""
    return OLD_PRESETS.get(name, name)


def present_word(key: str, value: Any) -> Any:
    """Return the present word for a value of a dotted key, such as `contiguous` for `lanes`."""
    return _WORDS.get(key, {}).get(value, value) if isinstance(value, str) else value


def with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return nested values whose old keys and words have their present names.

    It is applied to each layer of a configuration before layers are merged, so the order of the layers decides, whether
    their names are old or new. Raises UsageError if `values` holds one setting under both names.
    """
    values = dict(values)
    if isinstance(values.get("preset"), str):
        values["preset"] = present_preset(values["preset"])
    if isinstance(values.get("train"), dict):
        values["train"] = _present_section("train", values["train"])
    return values


def _present_section(section: str, values: dict[str, Any]) -> dict[str, Any]:
    present: dict[str, Any] = {}
    for name, value in values.items():
        key = present_key(f"{section}.{name}")
        present_name = key.removeprefix(f"{section}.")
        if present_name != name and present_name in values:
            raise UsageError(f"{section}.{name} is the old name of {key}: set one of them, not both")
        present[present_name] = present_word(key, value)
    return present
