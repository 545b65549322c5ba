"""What a run started from, in words, from the entry `parent` of its metadata.json. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def past_tokens(metadata: dict[str, Any]) -> int | None:
    """Return the training tokens of the weights before the run counted its own; None if they are not known."""
    value = (metadata.get("parent") or {}).get("past_tokens", 0)
    return value if isinstance(value, int) else None


def describe_parent(metadata: dict[str, Any], *, whole_path: bool = True) -> str | None:
    """Return what the run started from, with its path or only its name; None if it started from initial weights."""
    parent = metadata.get("parent")
    if not isinstance(parent, dict):
        return None
    path = str(parent.get("path")) if whole_path else Path(str(parent.get("path"))).name
    if parent.get("how") == "branch-from":
        text = f"a branch of {path} at step {parent.get('step')}"
    else:
        past = past_tokens(metadata)
        tokens = f"{past:,} tokens" if past is not None and "past_tokens" in parent else "an unknown number of tokens"
        text = f"the weights of {path}, which had seen {tokens}"
    kept = parent.get("initial_values")
    if kept:
        text += f"; {len(kept)} tensors began with initial values"
    changes = parent.get("changes")
    return f"{text}; what differs: {'; '.join(changes)}" if changes else text
