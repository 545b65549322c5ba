"""CPU cores: how many this process may use, and how many other processes use. Linux only; no torch."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from pathlib import Path

from tttkit.run import cgroups

_PROC = Path("/proc")
_IDLE_FIELDS = (3, 4)
"""Positions of `idle` and `iowait` among the fields of a line of /proc/stat."""
_NUM_FIELDS = 8
"""Number of fields that add up to the time of a core; the later fields (`guest`) are part of the first two."""


def available_cores(root: Path = cgroups.ROOT, own: Path = cgroups.OWN) -> int:
    """Return the number of cores that this process may use, by CPU affinity and control-group quotas; at least 1.

    A quota of 1.5 cores counts as 2. The arguments are the paths of the kernel's files.
    """
    cores = float(len(os.sched_getaffinity(0)))
    quotas = [quota for group in cgroups.groups("cpu", root, own) if (quota := _quota(group)) is not None]
    return max(1, min(math.ceil(quota) for quota in (cores, *quotas)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoreReading:
    """The CPU time that the kernel had counted at one moment."""

    seconds: float
    """Time of the reading on the monotonic clock."""
    busy: float
    """Core-seconds that all processes used, on the cores that this process may use."""
    own: float
    """Core-seconds that all threads of this process used."""


def read_cores(proc: Path = _PROC) -> CoreReading | None:
    """Read the counters in /proc; return None if the kernel has none."""
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        lines = [line.split() for line in (proc / "stat").read_text().splitlines()]
        own = (proc / "self" / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    times = [[int(field) for field in line[1 : _NUM_FIELDS + 1]] for line in lines if line and line[0] in cores]
    busy = sum(sum(fields) - sum(fields[index] for index in _IDLE_FIELDS) for fields in times)
    return CoreReading(
        seconds=time.monotonic(),
        busy=busy / ticks_per_second,
        own=(int(own[11]) + int(own[12])) / ticks_per_second,
    )


def cores_used_by_others(before: CoreReading, after: CoreReading) -> float:
    """Return the mean number of cores that other processes used between two readings, at least 0.

    Time that a hypervisor gave to other virtual machines counts as used by other processes.
    """
    elapsed = after.seconds - before.seconds
    if elapsed <= 0:
        return 0.0
    return max(0.0, (after.busy - before.busy) - (after.own - before.own)) / elapsed


def _quota(group: Path) -> float | None:
    """Return the quota of a control group (version 2 or 1) in cores, or None if it has no quota."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
            cores = int(quota) / int(period)
        # the file does not exist, or it holds `max` or an unknown format
        except (OSError, ValueError, ZeroDivisionError):
            continue
        # version 1 writes -1 for no quota
        if cores > 0:
            return cores
    return None
