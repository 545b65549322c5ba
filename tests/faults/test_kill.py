"""Promise: a run that is killed at any time resumes, and ends with the same bits as one that was never killed.

Runs are killed by SIGKILL at random times and at every call of a save, in forked trials and as real commands, while
other threads read their status. Mutants show that the comparison notices what a training checkpoint omits. See
docs/reliability.md.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cli.conftest import start, train_options
from tests.faults import trials
from tests.faults.conftest import LONGEST, assert_equal_runs, assert_no_leftovers, run_trial
from tests.faults.disks import KilledAt
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import is_locked
from tttkit.storage import commits
from tttkit.train.resume import checkpoint


class Watcher:
    """Four threads that read the status of a run all the time: they must never fail and never see half a file."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.num_reads = 0
        self.errors: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._read) for _ in range(4)]

    def _read(self) -> None:
        while not self._over.wait(0.01):
            if not self.run.path.is_dir():
                continue
            try:
                read_status(self.run)
                self.num_reads += 1
            except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
                self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()


def kill_until_finished(values, path, generator, duration: float, *, share_at_call: float = 0.5) -> tuple[int, int]:
    """Start and kill a run until it ends by itself; return the number of kills and the number of kills during a save.

    Half of the kills come at a random time, half before a random call that changes the disk, when they do most harm.
    """
    num_saving = 0
    for num_kills in range(200):
        saving = trials.context.Value("b", 0)
        number = generator.randrange(1, 400) if generator.random() < share_at_call else None
        disk = None if number is None else KilledAt(number)
        process = trials.context.Process(
            target=trials.train, args=(values, str(path)), kwargs={"saving": saving, "disk": disk, "log": f"{path}.log"}
        )
        process.start()
        process.join(LONGEST if number is not None else generator.uniform(0, duration))
        if process.exitcode is None:
            assert number is None, "the run hangs"
            process.kill()
        process.join(LONGEST)
        if process.exitcode == 0:
            return num_kills, num_saving
        assert process.exitcode == -signal.SIGKILL, Path(f"{path}.log").read_text()[-2000:]
        num_saving += saving.value
    raise AssertionError("the run never ended")


def _kills(values, reference, tmp_path, *, at_least: int, seed: int) -> tuple[int, int]:
    generator = random.Random(seed)
    started = time.monotonic()
    assert run_trial(trials.train, values, str(tmp_path / "timed")) == 0
    duration = time.monotonic() - started
    num_kills = num_saving = index = 0
    while num_kills < at_least:
        index += 1
        run = RunDirectory(tmp_path / f"run_{index}")
        with Watcher(run) as watcher:
            kills, saving = kill_until_finished(values, run.path, generator, duration)
        assert watcher.errors == []
        assert_equal_runs(run, reference)
        assert False not in [segment["resume_verified"] for segment in run.read_metadata()["segments"]]
        assert not is_locked(run)
        num_kills, num_saving = num_kills + kills, num_saving + saving
        shutil.rmtree(run.path)
    return num_kills, num_saving


def test_8_random_kills_leave_the_same_bits(values, reference, tmp_path):
    _kills(values, reference, tmp_path, at_least=8, seed=5)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(5))
def test_200_random_kills_leave_the_same_bits(values, reference, tmp_path, seed):
    """40 kills for each of 5 seeds, at least 8 of them during a save: kills in safe places would prove nothing."""
    _, num_saving = _kills(values, reference, tmp_path, at_least=40, seed=seed)
    assert num_saving >= 8


def test_a_kill_at_every_call_of_a_save_leaves_the_old_or_the_new_checkpoint(tmp_path):
    """Kill before each call of the second save in turn: exactly the first or the second checkpoint must load."""
    number, steps = 0, set()
    while True:
        number += 1
        path = tmp_path / str(number)
        code = run_trial(trials.save_twice, str(path), KilledAt(number))
        assert code in (0, -signal.SIGKILL)
        state = checkpoint.load_newest_checkpoint(RunDirectory(path))
        assert state.skipped == []
        assert state.values["note"] == state.step
        steps.add(state.step)
        commits.sweep_temporaries(path / "state")
        assert_no_leftovers(path)
        if code == 0:
            break
    assert steps == {1, 2}
    assert number > 15, "a save makes more calls than that"


_COMMIT = """
import sys
from pathlib import Path
from tttkit.storage import commits, files
for content in (b"old", b"new"):
    with commits.commit_directory(Path(sys.argv[1])) as directory:
        files.write_new(directory / "a", [content * 1000])
        files.write_new(directory / "b", [content])
"""


@pytest.mark.faults
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("call", ["fsync", "rename", "renameat2", "write", "openat", "unlink"])
def test_a_kill_at_a_system_call_leaves_the_old_or_the_new_directory(tmp_path, call):
    """This needs no help of our own code: strace kills the process at the n-th system call."""
    num_killed = 0
    for number in range(1, 60, 1 if call in ("fsync", "rename", "renameat2", "unlink") else 7):
        path = tmp_path / f"{number}" / "model"
        options = ["-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}"]
        done = subprocess.run(
            ["strace", *options, sys.executable, "-c", _COMMIT, str(path)], capture_output=True, text=True, timeout=60
        )
        if "ptrace" in done.stderr:
            pytest.skip("strace is not permitted")
        if path.exists():
            commits.verify_directory(path)
            assert (path / "b").read_bytes() in (b"old", b"new")
        if done.returncode == 0 and call in ("fsync", "rename", "renameat2", "unlink"):
            break
        num_killed += done.returncode != 0
    assert num_killed > 0


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_10_kills_of_the_real_command_leave_the_same_bits(tiny_data, disk_path):
    """The real command is killed ten times: it resumes each time, and its lock is free at once."""
    options = train_options(tiny_data, disk_path / "whole", "--max-steps", 40)
    with start(*options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert process.wait(120) == 0
    run, generator = RunDirectory(disk_path / "run"), random.Random(5)
    options = train_options(tiny_data, run.path, "--max-steps", 40)
    for _ in range(10):
        with start(*options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while not is_locked(run) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(generator.uniform(0, 1.5))
            process.kill()
            process.wait()
            assert not is_locked(run)
    with start(*options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert process.wait(120) == 0
    assert_equal_runs(run, RunDirectory(disk_path / "whole"))


@pytest.mark.parametrize("mutant", ["rng not saved", "position off by one"])
def test_mutants_are_caught_after_a_kill(values, reference, tmp_path, mutant):
    """If a training checkpoint omits something or gets it wrong, the bits differ."""
    path = str(tmp_path / "run")
    assert run_trial(trials.train, values, path, disk=KilledAt(250), mutant=mutant) == -signal.SIGKILL
    run_trial(trials.train, values, path, mutant=mutant)
    with pytest.raises((AssertionError, FileNotFoundError)):
        assert_equal_runs(RunDirectory(tmp_path / "run"), reference)


def test_the_same_kill_without_a_mutant_leaves_the_same_bits(values, reference, tmp_path):
    path = str(tmp_path / "run")
    assert run_trial(trials.train, values, path, disk=KilledAt(250)) == -signal.SIGKILL
    assert run_trial(trials.train, values, path) == 0
    assert_equal_runs(RunDirectory(tmp_path / "run"), reference)
