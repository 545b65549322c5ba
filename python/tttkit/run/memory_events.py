"""Count how often the kernel killed a process for lack of memory, to tell an OOM kill from any other SIGKILL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_WHOLE_MACHINE = Path("/proc/vmstat")


def mark() -> dict[str, Any] | None:
    """Return the counter that an OOM kill of this process would increase, and its current value.

    The counter is `oom_kill` of the process's control group, or of the machine if there is no control group. Returns
    None if the kernel has neither.
    """
    for file in (own_cgroup() / "memory.events", _WHOLE_MACHINE):
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


def own_cgroup() -> Path:
    """Return the directory of the control group that this process is in, which may be the root group."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return _CGROUP_ROOT
    unified = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return _CGROUP_ROOT / unified[0] if unified else _CGROUP_ROOT


def _read(file: Path) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts and counts[0].isdigit() else None
