"""Which process it is, beyond its number: pids come again, after a restart and in every container. Linux."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STOPPED = ("T", "t")
_DEAD = ("Z", "X")


def identity() -> dict[str, Any]:
    """This process: host, pid, boot of the machine, and its start in clock ticks since then; None where unknown."""
    found = _state_and_start(os.getpid())
    return {
        "host": socket.gethostname(), "pid": os.getpid(), "boot_id": boot_id(), "started": found and found[1],
    }  # fmt: skip


def boot_id() -> str | None:
    """What the kernel calls this start of the machine; None where it does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def describe(process: dict[str, Any]) -> str:
    """One line that no other process of the machine has, before or after it."""
    return f"host {process.get('host')}, pid {process.get('pid')}, started {process.get('started')}"


def is_elsewhere(process: dict[str, Any]) -> bool:
    """Whether it is or was on another machine, of which nothing can be known here."""
    return process.get("host") not in (None, socket.gethostname()) and not is_same_boot(process)


def is_same_boot(process: dict[str, Any]) -> bool:
    """Whether it is of this machine since its last start, so that its monotonic clock is ours."""
    return process.get("boot_id") is not None and process["boot_id"] == boot_id()


def is_stopped(process: dict[str, Any]) -> bool:
    """Whether it lives here, stopped by a signal: it does nothing until SIGCONT."""
    if not is_same_boot(process) or not isinstance(process.get("pid"), int):
        return False
    found = _state_and_start(process["pid"])
    return found is not None and found[0] in _STOPPED and found[1] == process.get("started")


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has that number now; it may be another one than had it before."""
    found = _state_and_start(pid)
    return found is not None and found[0] not in _DEAD


def seconds_since(process: dict[str, Any]) -> float | None:
    """Seconds since it noted its monotonic clock, whatever the wall clocks say; None when that is not ours."""
    noted = process.get("monotonic")
    return max(0.0, time.monotonic() - noted) if isinstance(noted, int | float) and is_same_boot(process) else None


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """State letter and start of a process, from the kernel; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19])
