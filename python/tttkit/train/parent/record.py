"""The record of what a new run starts from: the entry `parent` of metadata.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory
from tttkit.train.options import RunOptions


def parent_of(old: dict[str, Any] | None, run: RunDirectory, options: RunOptions) -> dict[str, Any] | None:
    """Return the record of a new run's parent, None for a run that starts from initial weights.

    A run that exists keeps its parent, so the options must name that one or none. Raises UsageError.
    """
    asked = None
    if options.init_from is not None:
        asked = {"how": "init-from", "path": _absolute(options.init_from)}
    if old is None or asked is None:
        return asked
    recorded = old.get("parent") or {}
    if (recorded.get("how"), recorded.get("path")) == (asked["how"], asked["path"]):
        return asked
    began = f"from {recorded['path']}" if recorded else "from initial weights"
    raise UsageError(
        f"{run.path} holds a run that was started {began}, not from {options.init_from}",
        hint=f"drop --{asked['how']} to resume it, or choose another --out",
    )


def _absolute(name: str) -> str:
    return name if name.startswith("hf:") else str(Path(name).absolute())
