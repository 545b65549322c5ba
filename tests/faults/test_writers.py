"""E1, E3: one writer at a time, and whoever asks knows who it is and whether it lives."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time

import pytest

from tests.faults import trials
from tests.faults.test_signals import start_run, wait_for
from tttkit.report.status import read_status
from tttkit.rundir import RunDirectory, is_locked


def race(path, num_processes: int) -> None:
    context = trials.context
    begin, everyone_tried = context.Event(), context.Barrier(num_processes)
    winners, refusals = context.SimpleQueue(), context.SimpleQueue()
    processes = [
        context.Process(target=trials.race, args=(str(path), begin, everyone_tried, winners, refusals))
        for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    begin.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    winner = winners.get()
    assert winners.empty(), "exactly one wins"
    for _ in range(num_processes - 1):
        code, message = refusals.get()
        assert code == 73
        assert "in use by" in message
        if "unknown" not in message and "pid" in message:
            assert f"pid {winner}" in message
            assert socket.gethostname() in message


def test_e1_a_race_has_one_winner(tmp_path):
    race(tmp_path, 8)


@pytest.mark.faults
def test_e1_20_races(tmp_path):
    for index in range(20):
        (tmp_path / str(index)).mkdir()
        race(tmp_path / str(index), 8)


@pytest.fixture
def endless(tiny_values, tmp_path):
    values = tiny_values(train={"max_steps": 1_000_000}, evaluation={"num_checkpoints": 0})
    process = start_run(values, tmp_path / "run", tmp_path / "log")
    wait_for(tmp_path / "log", '"step": 2', process)
    yield RunDirectory(tmp_path / "run"), process
    process.kill()
    process.join()


def test_e3_a_killed_trainer_is_known_within_a_second(endless):
    run, process = endless
    assert read_status(run).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic()
    while read_status(run).state != "crashed":
        assert time.monotonic() - killed < 1
    assert not is_locked(run)


def test_e3_a_copy_of_a_living_run_is_not_alive(endless, tmp_path):
    run, _ = endless
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".tmp-*")))
    assert read_status(copied).state == "crashed"
    assert read_status(run).state == "running"
