"""E1, E3: one writer at a time, and whoever asks knows who it is and whether it lives."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import signal
import socket
import threading
import time

import pytest

from tests.faults import trials
from tests.faults.test_signals import start_run, wait_for
from tttkit.errors import RunLockedError
from tttkit.health.lifecycle import STALLED_SECONDS
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory, exclusive, is_locked
from tttkit.storage import files
from tttkit.train.logs.metrics import RunLog


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
        assert message == f"{path} is in use by host {socket.gethostname()}, pid {winner}"


def test_e1_a_race_has_one_winner(tmp_path):
    race(tmp_path, 8)


@pytest.mark.faults
def test_e1_20_races(tmp_path):
    for index in range(20):
        (tmp_path / str(index)).mkdir()
        race(tmp_path / str(index), 8)


def test_e1_a_holder_that_has_not_said_its_name_yet_is_waited_for(tmp_path):
    run = RunDirectory(tmp_path)
    with exclusive(run):
        name = run.lock.read_text()
        run.lock.write_text("")
        later = threading.Timer(0.2, run.lock.write_text, [name])
        later.start()
        with pytest.raises(RunLockedError, match=f"pid {os.getpid()}$"), exclusive(run):
            pass
        later.join()


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


def test_e3_a_stopped_trainer_is_stalled_until_it_goes_on(endless):
    run, process = endless
    os.kill(process.pid, signal.SIGSTOP)
    _wait_for_state(run, "stalled")
    assert f"kill -CONT {process.pid}" in read_status(run).reason
    os.kill(process.pid, signal.SIGCONT)
    _wait_for_state(run, "running")


def test_e3_a_stopped_trainer_that_is_killed_has_crashed(endless):
    run, process = endless
    os.kill(process.pid, signal.SIGSTOP)
    _wait_for_state(run, "stalled")
    os.kill(process.pid, signal.SIGKILL)
    _wait_for_state(run, "crashed")
    assert f"(pid {process.pid})" in read_status(run).reason


def _wait_for_state(run: RunDirectory, state: str) -> None:
    deadline = time.monotonic() + 10
    while read_status(run).state != state:
        assert time.monotonic() < deadline


@pytest.fixture
def broken_off(reference, tmp_path) -> RunDirectory:
    """A run of this machine that did not come to its end, and whose process is gone."""
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    metadata = run.read_metadata()
    del metadata["result"]
    files.write_json(run.metadata, metadata)
    assert read_status(run).state == "crashed"
    return run


def alter_heartbeat(run: RunDirectory, **values) -> None:
    files.write_json(run.heartbeat, {**run.read_heartbeat(), **values})


@pytest.mark.parametrize("days", [-1, 1])
def test_e3_no_wall_clock_decides(broken_off, days):
    """Set by a day, it makes a living run neither silent nor a silent one lively."""
    wrong = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)).isoformat()
    with exclusive(broken_off):
        RunLog(broken_off).heartbeat("training", 5)
        alter_heartbeat(broken_off, time=wrong)
        assert read_status(broken_off).state == "running"
        alter_heartbeat(broken_off, monotonic=time.monotonic() - STALLED_SECONDS - 1)
        assert read_status(broken_off).state == "stalled"
    assert read_status(broken_off).state == "crashed"
    assert re.search(r", 1\d\d s ago", read_status(broken_off).reason)


def test_e3_a_pid_that_came_again_is_another_process(broken_off):
    alter_heartbeat(broken_off, pid=os.getpid())  # it lives, but it is not the trainer
    assert read_status(broken_off).state == "crashed"
    with exclusive(broken_off):  # the next trainer, in a container of the same pid, before its first sign of life
        assert read_status(broken_off).state == "starting"


def test_e3_of_another_host_nothing_is_known(broken_off, reference, tmp_path):
    alter_heartbeat(broken_off, host="elsewhere", boot_id="other")
    found = read_status(broken_off)
    assert (found.state, found.reason.partition(":")[0]) == ("unknown", "host elsewhere")
    finished = RunDirectory(shutil.copytree(reference.path, tmp_path / "finished"))
    alter_heartbeat(finished, host="elsewhere", boot_id="other")
    assert read_status(finished).state == "finished"


def test_e3_a_machine_that_started_again_has_no_old_trainer(broken_off):
    alter_heartbeat(broken_off, boot_id="an earlier one")
    assert read_status(broken_off).state == "crashed"


@pytest.mark.parametrize("content", [b"", b'{"sequence": 7, "pha', b"[1]", bytes(4096)])
def test_e3_half_a_heartbeat_is_none(broken_off, content):
    """As it is read while it is written over on a full disk, or after a power failure."""
    broken_off.heartbeat.write_bytes(content)
    assert read_status(broken_off).state == "crashed"
    with exclusive(broken_off):
        assert read_status(broken_off).state == "starting"
