"""Count how often the kernel killed a process for lack of memory, to tell an OOM kill from any other SIGKILL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tttkit.run import cgroups

_COUNTERS = ("memory.events", "memory.oom_control")
"""Files of a control group of version 2 and of version 1 that count kills."""
_WHOLE_MACHINE = Path("/proc/vmstat")


def mark() -> dict[str, Any] | None:
    """Return the counter that an OOM kill of this process would increase, and its current value.

    The counter is `oom_kill` of the process's control group, or of the machine if there is no control group. Returns
    None if the kernel has neither.
    """
    counters = [group / name for group in cgroups.groups("memory") for name in _COUNTERS]
    for file in (*counters, _WHOLE_MACHINE):
        count = _read(file)
        if count is not None:
            return {"file": str(file), "oom_kill": count}
    return None


def kills_since(marked: Any) -> int:
    """Return the number of kills since `mark` returned `marked`; 0 when it is not known."""
    if not isinstance(marked, dict) or marked.get("file") is None:
        return 0
    count = _read(Path(marked["file"]))
    return 0 if count is None else max(0, count - int(marked.get("oom_kill", count)))


def _read(file: Path) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts and counts[0].isdigit() else None
