"""Kill workers of a cluster that this process has started."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path


def workers(task: str) -> list[int]:
    """Return the pids of the workers that run a task of this name, among the descendants of this process."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_text()
            except OSError:
                continue

    def is_ours(pid: int) -> bool:
        while pid > 1:
            pid = parents.get(pid, 0)
            if pid == os.getpid():
                return True
        return False

    return [pid for pid, name in names.items() if name.rstrip("\0") == f"ray::{task}" and is_ours(pid)]


def kill_a_worker(
    task: str, killed: list[int], ended: threading.Event, when: Callable[[], bool] = lambda: True
) -> None:
    """Kill the first worker that runs a task of this name, as soon as `when` is true."""
    while not killed and not ended.wait(0.02):
        for pid in workers(task)[:1] if when() else []:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
