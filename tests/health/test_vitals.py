from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tttkit.health.vitals import gpus, parse_gpus
from tttkit.run import memory_events


def test_answers_of_the_gpu_driver():
    answer = "0, 71, 38912, 81559, 64\n1, [N/A], 12, 81559, 30\n"
    assert parse_gpus(answer) == [
        {"index": 0, "utilization": 71, "memory_used": 38912, "memory_total": 81559, "temperature": 64},
        {"index": 1, "memory_used": 12, "memory_total": 81559, "temperature": 30},
    ]
    assert parse_gpus("") == []


@pytest.mark.parametrize(("script", "expected"), [("echo '0, 5, 1, 2, 3'", 1), ("exit 9", 0)])
def test_the_driver_is_asked_and_may_fail(tmp_path, monkeypatch, script, expected):
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert len(gpus()) == expected


def test_no_gpu_is_silent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []


def test_kills_are_counted_from_a_mark(tmp_path, monkeypatch):
    counter = tmp_path / "memory.events"
    counter.write_text("oom 3\noom_kill 2\n")
    monkeypatch.setattr(memory_events.cgroups, "groups", lambda _: [tmp_path])
    marked = memory_events.mark()
    assert marked == {"file": str(counter), "oom_kill": 2}
    assert memory_events.kills_since(marked) == 0
    counter.write_text("oom 3\noom_kill 4\n")
    assert memory_events.kills_since(marked) == 2
    counter.write_text("oom_kill 0\n")
    assert memory_events.kills_since(marked) == 0, "the counter began again"
    counter.unlink()
    assert memory_events.kills_since(marked) == 0
    assert [memory_events.kills_since(value) for value in (None, {}, {"file": None}, 3)] == [0, 0, 0, 0]


def test_the_counter_of_this_machine_is_the_kernels():
    """`mark` names a file of the kernel that holds the number it gives, or there is no such file."""
    marked = memory_events.mark()
    names = ("memory.events", "memory.oom_control")
    counters = [group / name for group in memory_events.cgroups.groups("memory") for name in names]
    candidates = [*counters, Path("/proc/vmstat")]
    if marked is None:
        assert not any("oom_kill " in path.read_text() for path in candidates if path.is_file())
        return
    lines = Path(marked["file"]).read_text().splitlines()
    assert Path(marked["file"]) in candidates
    assert int(next(line.split()[1] for line in lines if line.startswith("oom_kill "))) >= marked["oom_kill"]
    assert memory_events.kills_since({**marked, "oom_kill": marked["oom_kill"] - 3}) >= 3
