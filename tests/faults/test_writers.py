"""Promise: one process at a time writes to a run, and `status` tells which process it is and whether it is alive.

Processes race for the lock; trainers are killed, suspended, and copied; pids, boots, hosts, and clocks are changed. See
docs/reliability.md.
"""

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
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive, is_locked
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
    assert winners.empty(), "exactly one process wins"
    for _ in range(num_processes - 1):
        code, message = refusals.get()
        assert code == 73
        assert message == f"{path} is in use by host {socket.gethostname()}, pid {winner}"


def test_a_race_of_8_processes_has_one_winner(tmp_path):
    race(tmp_path, 8)


@pytest.mark.faults
def test_20_races_of_8_processes_have_one_winner_each(tmp_path):
    for index in range(20):
        (tmp_path / str(index)).mkdir()
        race(tmp_path / str(index), 8)


def test_a_lock_that_does_not_name_its_holder_yet_is_read_again(tmp_path):
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


def test_a_killed_trainer_is_crashed_within_a_second(endless):
    run, process = endless
    assert read_status(run).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic()
    while read_status(run).state != "crashed":
        assert time.monotonic() - killed < 1
    assert not is_locked(run)


def test_a_copy_of_a_live_run_is_not_alive(endless, tmp_path):
    run, _ = endless
    copied = RunDirectory(shutil.copytree(run.path, tmp_path / "copy", ignore=shutil.ignore_patterns(".tmp-*")))
    assert read_status(copied).state == "crashed"
    assert read_status(run).state == "running"


def test_a_suspended_trainer_is_stalled_until_it_continues(endless):
    run, process = endless
    os.kill(process.pid, signal.SIGSTOP)
    _wait_for_state(run, "stalled")
    assert f"kill -CONT {process.pid}" in read_status(run).reason
    os.kill(process.pid, signal.SIGCONT)
    _wait_for_state(run, "running")


def test_a_suspended_trainer_that_is_killed_has_crashed(endless):
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
def unfinished(reference, tmp_path) -> RunDirectory:
    """A run of this machine that did not finish and whose process is gone."""
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    metadata = run.read_metadata()
    del metadata["result"]
    files.write_json(run.metadata, metadata)
    assert read_status(run).state == "crashed"
    return run


def alter_heartbeat(run: RunDirectory, **values) -> None:
    files.write_json(run.heartbeat, {**run.read_heartbeat(), **values})


@pytest.mark.parametrize("days", [-1, 1])
def test_the_wall_clock_decides_nothing(unfinished, days):
    """A clock that is wrong by a day makes no live run stalled and no stalled run live."""
    wrong = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)).isoformat()
    with exclusive(unfinished):
        RunLog(unfinished).heartbeat("training", 5)
        alter_heartbeat(unfinished, time=wrong)
        assert read_status(unfinished).state == "running"
        alter_heartbeat(unfinished, monotonic=time.monotonic() - STALLED_SECONDS - 1)
        assert read_status(unfinished).state == "stalled"
    assert read_status(unfinished).state == "crashed"
    assert re.search(r"at most 1\d\d s ago", read_status(unfinished).reason)


def test_a_reused_pid_is_another_process(unfinished):
    alter_heartbeat(unfinished, pid=os.getpid())  # this process is alive, but it is not the trainer
    assert read_status(unfinished).state == "crashed"
    with exclusive(unfinished):  # the next trainer has the same pid, in a container, and no heartbeat yet
        assert read_status(unfinished).state == "starting"


def test_a_run_on_another_host_is_unknown(unfinished, reference, tmp_path):
    alter_heartbeat(unfinished, host="elsewhere", boot_id="other")
    status = read_status(unfinished)
    assert (status.state, status.reason.partition(":")[0]) == ("unknown", "host elsewhere")
    finished = RunDirectory(shutil.copytree(reference.path, tmp_path / "finished"))
    alter_heartbeat(finished, host="elsewhere", boot_id="other")
    assert read_status(finished).state == "finished"


def test_a_reboot_ends_every_trainer(unfinished):
    alter_heartbeat(unfinished, boot_id="an earlier one")
    assert read_status(unfinished).state == "crashed"


@pytest.mark.parametrize("content", [b"", b'{"sequence": 7, "pha', b"[1]", bytes(4096)])
def test_a_damaged_heartbeat_is_ignored(unfinished, content):
    """A full disk makes us overwrite it in place, and a power failure may leave anything."""
    unfinished.heartbeat.write_bytes(content)
    assert read_status(unfinished).state == "crashed"
    with exclusive(unfinished):
        assert read_status(unfinished).state == "starting"
