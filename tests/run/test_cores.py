from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tttkit.run.cores import CoreReading, available_cores, cores_used_by_others, read_cores

_SPIN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def write(folder, files: dict[str, str]):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"own": "0::/\n", "cgroup/cpu.max": "max 100000\n"}, 8),
        ({"own": "0::/\n", "cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"own": "0::/\n", "cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"own": "0::/\n", "cgroup/cpu.max": "6400000 100000\n"}, 8),
        # a group without a limit inside one with a limit
        ({"own": "0::/a/b\n", "cgroup/a/b/cpu.max": "max 100000\n", "cgroup/a/cpu.max": "300000 100000\n"}, 3),
        # the kernel gives the path on the host, and the container sees its own group as the root
        ({"own": "0::/docker/0123\n", "cgroup/cpu.max": "400000 100000\n"}, 4),
        # version 1
        (
            {
                "own": "5:memory:/m\n4:cpu,cpuacct:/docker/0123\n0::/\n",
                "cgroup/cpu,cpuacct/docker/0123/cpu.cfs_quota_us": "250000\n",
                "cgroup/cpu,cpuacct/docker/0123/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        ({"own": "4:cpu:/\n", "cgroup/cpu/cpu.cfs_quota_us": "-1\n", "cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        # another controller whose name also begins with cpu
        ({"own": "4:cpuset:/a\n", "cgroup/cpuset/a/cpu.max": "100000 100000\n"}, 8),
        # damaged and missing files
        ({"own": "0::/\n", "cgroup/cpu.max": "what\n"}, 8),
        ({"own": "0::/\n", "cgroup/cpu.max": "100000 0\n"}, 8),
        ({}, 8),
    ],
)
def test_the_quota_of_a_container_limits_the_cores(eight_cores, tmp_path, files, expected):
    assert available_cores(*write(tmp_path, files)) == expected


def test_the_affinity_limits_the_cores(monkeypatch):
    assert 1 <= available_cores() <= os.cpu_count()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert available_cores() == 1


def test_only_the_cores_of_this_process_are_read(monkeypatch, tmp_path):
    """This process may use two of three cores. Steal time counts; idle, iowait and guest times do not."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    write(
        tmp_path,
        {
            "stat": "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 10 20 5000 600 1 2 3 50 7\ncpu1 9000 0 0 0 0 0 0 0 0 0\n"
            "cpu2 200 0 0 1 1 0 0 64 0 0\nintr 1 2 3\n\n",
            "self/stat": "7 (a ) name) R 1 1 1 0 -1 0 0 0 0 0 120 30 900 900 20 0 1 0 5 6 7",
        },
    )
    reading = read_cores(tmp_path)
    assert (reading.busy, reading.own) == (4.0, 1.5)
    assert read_cores(tmp_path / "elsewhere") is None


def test_cores_used_by_other_processes():
    before = CoreReading(seconds=10.0, busy=100.0, own=50.0)
    assert cores_used_by_others(before, CoreReading(seconds=14.0, busy=107.0, own=52.0)) == pytest.approx(1.25)
    assert cores_used_by_others(before, CoreReading(seconds=14.0, busy=101.0, own=52.0)) == 0.0
    assert cores_used_by_others(before, before) == 0.0


def test_a_busy_process_is_seen_in_the_real_counters():
    """The work of this process does not count as work of others."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as process:
        before = read_cores()
        # CPU time, because other tests may use the cores at the same time
        end = time.process_time() + 0.4
        while time.process_time() < end:
            pass
        after = read_cores()
        process.kill()
    others = cores_used_by_others(before, after)
    assert 0.1 < others < os.cpu_count()
    assert after.own - before.own > 0.2
    assert after.busy - before.busy >= after.own - before.own
