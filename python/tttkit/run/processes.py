"""Identify processes by more than their pid, which is reused after a reboot and in every container. Linux only."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STOPPED = ("T", "t")
_DEAD = ("Z", "X")
_PR_SET_PDEATHSIG = 1


def identity() -> dict[str, Any]:
    """Identify this process: host, pid, boot of the machine, and start in clock ticks since the boot or None."""
    status = _status_and_start(os.getpid())
    return {
        "host": socket.gethostname(), "pid": os.getpid(), "boot_id": boot_id(), "started": status and status[1],
    }  # fmt: skip


def boot_id() -> str | None:
    """Return the id that the kernel gave to this boot of the machine, or None if it gives none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def describe(process: dict[str, Any]) -> str:
    """Describe a process in one line that is unique on its machine."""
    return f"host {process.get('host')}, pid {process.get('pid')}, started {process.get('started')}"


def is_elsewhere(process: dict[str, Any]) -> bool:
    """Return whether a process ran on another machine, so that this one cannot tell whether it is alive."""
    return process.get("host") not in (None, socket.gethostname()) and not is_same_boot(process)


def is_same_boot(process: dict[str, Any]) -> bool:
    """Return whether a process started in this boot of this machine, so that its monotonic clock is ours."""
    return process.get("boot_id") is not None and process["boot_id"] == boot_id()


def is_stopped(process: dict[str, Any]) -> bool:
    """Return whether a process of this machine is suspended by a signal until SIGCONT."""
    if not is_same_boot(process) or not isinstance(process.get("pid"), int):
        return False
    status = _status_and_start(process["pid"])
    return status is not None and status[0] in _STOPPED and status[1] == process.get("started")


def is_alive(pid: int) -> bool:
    """Return whether any live process of this machine has that pid now; the pid may have been reused."""
    status = _status_and_start(pid)
    return status is not None and status[0] not in _DEAD


def seconds_since(process: dict[str, Any]) -> float | None:
    """Return the seconds since a process recorded its monotonic clock; None when that clock is not ours."""
    then = process.get("monotonic")
    return max(0.0, time.monotonic() - then) if isinstance(then, int | float) and is_same_boot(process) else None


def end_with_parent(parent: int) -> None:
    """Let the kernel send SIGTERM to this process when its parent, whose pid is `parent`, ends; now if it has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _status_and_start(pid: int) -> tuple[str, int] | None:
    """Return the status letter of a process and its start in clock ticks; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19])
