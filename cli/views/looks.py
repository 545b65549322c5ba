"""What changed since the last look at a run. A look is remembered in the user's own state folder, never in the run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tttkit.errors import DataError
from tttkit.health.status import RunStatus
from tttkit.storage import files
from tttkit_cli.views.units import duration, perplexity

_KEPT = ("state", "step", "loss", "num_evaluations", "best_selection_ppl")


@dataclasses.dataclass(frozen=True)
class Look:
    """The figures of a run at one moment; wall-clock time, for display only."""

    time: float
    values: dict[str, Any]


def look_at(item: RunStatus) -> Look:
    """What is remembered of this moment."""
    return Look(time.time(), {name: getattr(item, name) for name in _KEPT})


def recall(item: RunStatus) -> Look | None:
    """The last look at this run that `remember` kept, or None."""
    with suppress(DataError, KeyError, TypeError, ValueError):
        kept = files.read_json(_file(item), max_bytes=1 << 16)
        return Look(float(kept["time"]), {name: kept["values"].get(name) for name in _KEPT})
    return None


def remember(item: RunStatus) -> None:
    """Keep this look for the next command; a state folder that cannot be written costs only that."""
    with suppress(OSError):
        file = _file(item)
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, dataclasses.asdict(look_at(item)))


def changes(before: Look | None, item: RunStatus) -> str:
    """`3 m ago: +120 steps, loss 3.100 to 2.900, 1 evaluation`; empty for a first look."""
    if before is None:
        return ""
    old, parts = before.values, []
    if old["state"] != item.state:
        parts.append(f"{old['state']} to {item.state}")
    if item.step is not None and item.step != old["step"]:
        parts.append(f"{item.step - (old['step'] or 0):+,} steps")
    if item.loss is not None and old["loss"] is not None and item.loss != old["loss"]:
        parts.append(f"loss {old['loss']:.3f} to {item.loss:.3f}")
    if item.num_evaluations != old["num_evaluations"]:
        number = item.num_evaluations - (old["num_evaluations"] or 0)
        parts.append(f"{number:+,} evaluation{'s' if abs(number) != 1 else ''}")
    if item.best_selection_ppl is not None and item.best_selection_ppl != old["best_selection_ppl"]:
        was = perplexity(old["best_selection_ppl"])
        parts.append(f"best {was} to {perplexity(item.best_selection_ppl)}")
    return f"{duration(time.time() - before.time)} ago: {', '.join(parts) or 'nothing has changed'}"


def _file(item: RunStatus) -> Path:
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    # With its identity: another run at the same path is no change of this one.
    name = hashlib.sha256(f"{Path(item.run).absolute()} {item.run_id}".encode()).hexdigest()[:24]
    return Path(root) / "tttkit" / "looks" / f"{name}.json"
