from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from tttkit.errors import RunLockedError
from tttkit.run import lock, processes
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive, is_locked

_HOLDER = """
import sys, time
from pathlib import Path
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
with exclusive(RunDirectory(Path(sys.argv[1]))):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_lock_excludes_others_names_its_holder_and_ends_with_it(tmp_path):
    run = RunDirectory(tmp_path)
    assert not is_locked(run)
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"locked\n"
        assert is_locked(run)
        with pytest.raises(RunLockedError, match=f"pid {holder.pid}") as error, exclusive(run):
            pass
        assert error.value.exit_code == 73
        holder.kill()
        holder.wait()
    assert not is_locked(run)
    with exclusive(run):
        assert is_locked(run)
    assert not is_locked(run)


def test_probing_never_takes_the_lock(tmp_path):
    run = RunDirectory(tmp_path)
    with exclusive(run):
        pass
    for _ in range(100):
        assert not is_locked(run)
    with exclusive(run):
        assert is_locked(run)


def beat(run, sequence, **process):
    """Write the heartbeat of a process on another machine."""
    elsewhere = {**processes.identity(), "host": "node7", "boot_id": "another", "pid": 41}
    run.heartbeat.write_text(json.dumps({"sequence": sequence, **elsewhere, **process}))


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(lock, "LISTEN_SECONDS", 1.0)
    return []


def test_a_live_writer_on_another_machine_is_heard_where_locks_do_not_reach(tmp_path, told):
    run = RunDirectory(tmp_path)
    run.metadata.write_text('{"segments": [{}]}')
    beat(run, 5)
    threading.Timer(0.3, beat, (run, 6)).start()
    with pytest.raises(RunLockedError, match="in use by host node7, pid 41: its heartbeat goes on"):  # noqa: SIM117
        with exclusive(run, told.append):
            pytest.fail("the run is not ours")
    assert "the last process of this run (host node7, pid 41) recorded no end; listening" in told[0]
    assert not is_locked(run)


def test_a_run_whose_writer_on_another_machine_was_killed_is_taken(tmp_path, told):
    run = RunDirectory(tmp_path)
    run.metadata.write_text('{"segments": [{}]}')
    beat(run, 5)
    started = time.monotonic()
    with exclusive(run, told.append):
        assert time.monotonic() - started >= 1
    assert len(told) == 1


@pytest.mark.parametrize(
    ("metadata", "process"),
    [('{"result": {"reason": "preempted"}}', {}), ('{"segments": [{}]}', {"host": processes.identity()["host"]})],
    ids=["ended", "the same machine before a reboot"],
)
def test_a_run_that_ended_or_was_here_is_taken_at_once(tmp_path, told, metadata, process):
    run = RunDirectory(tmp_path)
    run.metadata.write_text(metadata)
    beat(run, 5, **process)
    with exclusive(run, told.append):
        beat(run, 6, **process)
    assert told == []
