"""Settings of the context `dynamic` in results: evaluations by different settings are named, never mixed in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tttkit.config.dynamic import DynamicConfig
from tttkit.errors import UsageError
from tttkit.results.summary import Summary


def dynamic_settings(summary: Summary) -> str | None:
    """Return the settings of `dynamic` in one line; None for an evaluation without it."""
    values = summary.get("dynamic")
    if not isinstance(values, dict):
        return None
    try:
        return str(DynamicConfig(**values))
    # settings of another version
    except (TypeError, UsageError):
        return ", ".join(f"{name} {value}" for name, value in values.items())


def dynamic_differences(summaries: Sequence[Summary], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row if evaluations were measured in `dynamic` by different settings.

    No figure is refused, because the best settings of two models differ.
    """
    settings = [dynamic_settings(summary) for summary in summaries]
    if len({each for each in settings if each is not None}) < 2:
        return []
    shown = {name: each or "not measured" for name, each in zip(names, settings, strict=True)}
    because = "`dynamic` adapts the weights of each by other settings"
    return [{"setting": "dynamic", **shown, "refused": None, "because": because}]
