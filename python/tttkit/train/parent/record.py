"""The record of what a new run starts from: the entry `parent` of metadata.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory
from tttkit.train.options import RunOptions
from tttkit.train.parent.source import split_step


def parent_of(old: dict[str, Any] | None, run: RunDirectory, options: RunOptions) -> dict[str, Any] | None:
    """Return the record of a new run's parent, None for a run that starts from initial weights.

    A run that exists keeps its parent, so the options must name that one or none. Raises UsageError.
    """
    asked = _asked(options)
    if old is None or asked is None:
        return asked
    recorded = old.get("parent") or {}
    if all(recorded.get(key) == value for key, value in asked.items()):
        return asked
    began = f"from {recorded['path']}" if recorded else "from initial weights"
    raise UsageError(
        f"{run.path} holds a run that was started {began}, not from {options.init_from or options.branch_from}",
        hint=f"drop --{asked['how']} to resume it, or choose another --out",
    )


def _asked(options: RunOptions) -> dict[str, Any] | None:
    """Return the parent that the options name, None for none. Raises UsageError."""
    if options.init_from is not None and options.branch_from is not None:
        raise UsageError(
            "--init-from and --branch-from exclude each other",
            hint="--init-from takes the weights alone; --branch-from also takes the optimizer and the configuration",
        )
    if options.init_from is not None:
        return {"how": "init-from", "path": _absolute(options.init_from)}
    if options.branch_from is None:
        return None
    at = split_step(options.branch_from)
    if at is None:
        raise UsageError(
            f"expected --branch-from RUN@STEP, got `{options.branch_from}`",
            hint="`tttkit status RUN` names the newest training checkpoint of a run",
        )
    return {"how": "branch-from", "path": _absolute(str(at[0])), "step": at[1]}


def _absolute(name: str) -> str:
    return name if name.startswith("hf:") else str(Path(name).absolute())
