"""CPU cores: how many this process may use, and how many other processes use meanwhile. Linux; no torch."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_PROC = Path("/proc")
_IDLE_FIELDS = (3, 4)
"""Positions of `idle` and `iowait` in a line of /proc/stat."""
_NUM_FIELDS = 8
"""Fields of such a line that add up to its time; the later ones (`guest`) are part of the first two."""


def available_cores(cgroups: Path = _CGROUPS, own_cgroups: Path = _OWN_CGROUPS) -> int:
    """Return the number of cores that this process may use: its CPU affinity or its control groups' quota, at least 1.

    A quota of 1.5 cores counts as 2. The arguments are the places of the kernel's files.
    """
    cores = float(len(os.sched_getaffinity(0)))
    return max(1, min(math.ceil(quota) for quota in (cores, *_quotas(cgroups, own_cgroups))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoreReading:
    """The CPU time that the kernel had counted at one moment."""

    seconds: float
    """Monotonic clock."""
    busy: float
    """Core-seconds spent on anything, on the cores that this process may run on."""
    own: float
    """Core-seconds spent on this process, all its threads together."""


def read_cores(proc: Path = _PROC) -> CoreReading | None:
    """Read the counters of /proc; None where the kernel keeps none."""
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

    The time that a hypervisor gave to other machines counts as used by others.
    """
    elapsed = after.seconds - before.seconds
    if elapsed <= 0:
        return 0.0
    return max(0.0, (after.busy - before.busy) - (after.own - before.own)) / elapsed


def _quotas(cgroups: Path, own_cgroups: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of this process's control groups and of the groups around them.

    A container may see its own group as the root of the tree while the kernel names the group by its path outside, so
    groups that do not exist are passed over.
    """
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            trees = [cgroups, cgroups / "unified"]
        elif "cpu" in controllers.split(","):
            trees = [cgroups / controllers, cgroups / "cpu"]
        else:
            continue
        for tree in trees:
            group = tree / path.lstrip("/")
            for each in (group, *group.parents):
                if not each.is_relative_to(tree):
                    break
                quota = _quota(each)
                if quota is not None:
                    yield quota


def _quota(group: Path) -> float | None:
    """Return the quota of one control group (version 2 or 1) in cores; None where there is none."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
            cores = int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, `max`, or something unknown
            continue
        if cores > 0:  # version 1 says -1 for none
            return cores
    return None
