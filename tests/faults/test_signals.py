"""Promise: a signal stops a run within its grace period, its last step is saved, and it resumes with the same bits.

If the last steps cannot be saved, the run and `status` say so. SIGTERM, SIGINT, SIGUSR1, and SIGHUP come at random
times and at chosen places. See docs/reliability.md.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import run_process, start, train_options, tttkit, wait_until
from tests.faults import trials
from tests.faults.conftest import LONGEST, assert_equal_runs, run_trial
from tests.faults.disks import KilledAt, Touching
from tests.training import train
from tttkit.errors import PreemptedError
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import describe_saved, newest_saved_step, training_checkpoints
from tttkit.run.signals import StopSignals
from tttkit.storage import filesystem


def start_run(values, path, log, **options):
    process = trials.context.Process(target=trials.train, args=(values, str(path)), kwargs={"log": str(log), **options})
    process.start()
    return process


def wait_for(log, text, process, seconds=60) -> None:
    deadline = time.monotonic() + seconds
    while not log.exists() or text not in log.read_text():
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def preempt_until_finished(values, path, tmp_path, generator, duration, count) -> int:
    """Send SIGTERM at random times until `count` have stopped the run or it ended, and return how many did.

    The run must answer each within 10 s with exit code 75.
    """
    num_stopped = 0
    for index in range(count):
        log = tmp_path / f"log_{path.name}_{index}"
        process = start_run(values, path, log)
        wait_for(log, "", process)
        while not RunDirectory(path).lock.exists() and process.is_alive():
            time.sleep(0.002)
        time.sleep(generator.uniform(0.05, duration))
        if not process.is_alive():
            break
        started = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        process.join(30)
        assert time.monotonic() - started < 10
        if process.exitcode == 0:
            break
        assert process.exitcode == 75, log.read_text()[-1000:]
        num_stopped += 1
        last = _last_step(log)
        run = RunDirectory(path)
        if last is not None:
            assert training_checkpoints(run)[0][0] >= last, "the last step is saved"
    return num_stopped


def _last_step(log) -> int | None:
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    steps = [event["step"] for event in events if event["event"] == "step"]
    return steps[-1] if steps else None


def _stop_at_random(values, reference, tmp_path, count: int) -> int:
    generator = random.Random(7)
    started = time.monotonic()
    assert run_trial(trials.train, values, str(tmp_path / "timed")) == 0
    duration = time.monotonic() - started
    stopped = index = 0
    while stopped < count:
        index += 1
        path = tmp_path / f"run_{index}"
        stopped += preempt_until_finished(values, path, tmp_path, generator, duration, count - stopped + 1)
        assert run_trial(trials.train, values, str(path)) == 0
        assert_equal_runs(RunDirectory(path), reference)
    return stopped


def test_4_sigterms_at_random_times_leave_the_same_bits(values, reference, tmp_path):
    _stop_at_random(values, reference, tmp_path, 4)


@pytest.mark.faults
def test_40_sigterms_at_random_times_leave_the_same_bits(values, reference, tmp_path):
    _stop_at_random(values, reference, tmp_path, 40)


@pytest.mark.faults
def test_a_signal_during_the_first_compilation_is_answered_in_time(tiny_values, tmp_path):
    """The first compilation takes a minute, and the process exits long before it ends."""
    values = tiny_values(train={"compile": True}, evaluation={"num_checkpoints": 0})
    process = start_run(values, tmp_path / "run", tmp_path / "log", grace=3.0)
    wait_for(tmp_path / "log", '"saved"', process)
    time.sleep(1)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode in (0, 75)
    assert time.monotonic() - started < 10


PLACES = {
    "start-up": (Touching("metadata.json"), 1),
    "first checkpoint": (Touching("state"), 1),
    "evaluation": (Touching("checkpoint_001"), 3),
    "best model": (Touching("best_model"), 20),
    "save": (Touching("state/.tmp-step_5"), 4),
    "retention": (Touching("state/.tmp-step_", removing=True), 2),
    "final model": (Touching("final_model"), 5),
}
"""Places of a signal: before the n-th matching call."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_place_stops_the_run(values, reference, tmp_path, place, number):
    """The run stops with its work half done, and resumes with the same bits."""
    matches, count = PLACES[place]
    run, log = RunDirectory(tmp_path / "run"), tmp_path / "log"
    code = run_trial(trials.train, values, str(run.path), disk=KilledAt(count, matches, number), log=str(log))
    assert code == (0 if place == "final model" else 75), log.read_text()[-2000:]
    if code == 75:
        assert run.read_metadata()["result"]["reason"] == "preempted"
        assert read_status(run).state == "preempted"
    assert run_trial(trials.train, values, str(run.path)) == 0
    assert_equal_runs(run, reference)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_last_step_is_saved_even_long_after_the_last_save(tiny_values, reference_of, tmp_path, number):
    """A signal while step 6 is logged stops the run at the next safe point, not at the next evaluation or save."""
    values = tiny_values(train={"save_every": 1000})
    run, logging = RunDirectory(tmp_path / "run"), KilledAt(6, Touching("metrics.jsonl"), number)
    assert run_trial(trials.train, values, str(run.path), disk=logging, log=str(tmp_path / "log")) == 75
    step = run.read_metadata()["result"]["step"]
    # The signal may arrive an update later on a busy machine.
    assert step in (6, 7, 8)
    assert (
        f"error: stopped by {number.name} at step {step} of 12; training checkpoint of step {step} saved"
        in (tmp_path / "log").read_text()
    )
    assert training_checkpoints(run)[0][0] == step
    assert run_trial(trials.train, values, str(run.path)) == 0
    assert_equal_runs(run, reference_of(values))


class _FullAfterFirstSave:
    """Only the first training checkpoint fits on the disk; SIGTERM comes while step 6 is logged."""

    def __call__(self):
        class Disk(filesystem.FileSystem):
            num_records = 0

            def open_append(self, path):
                if path.name == "metrics.jsonl":
                    self.num_records += 1
                    if self.num_records == 6:
                        os.kill(os.getpid(), signal.SIGTERM)
                return super().open_append(path)

            def create(self, path):
                if "state/.tmp-" in str(path) and ".tmp-step_0-" not in str(path):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                return super().create(path)

        return Disk()


def test_status_tells_how_many_steps_of_a_stopped_run_are_lost(tiny_values, reference_of, tmp_path):
    """The last save fails: the run stops at step 6 or 7, and only the training checkpoint of step 0 is there."""
    values = tiny_values(train={"save_every": 1000})
    run, log = RunDirectory(tmp_path / "run"), tmp_path / "log"
    assert run_trial(trials.train, values, str(run.path), disk=_FullAfterFirstSave(), log=str(log)) == 75
    step = run.read_metadata()["result"]["step"]
    assert step in (6, 7)
    status = read_status(run)
    assert (status.state, status.step, status.saved_step) == ("preempted", step, 0)
    assert status.reason == f"stopped by a signal at step {step}; {describe_saved(0, step)}"
    assert f"{step} steps" in status.reason
    assert run_trial(trials.train, values, str(run.path)) == 0
    assert_equal_runs(run, reference_of(values))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_an_evaluation(values, tmp_path, number):
    run, shares = RunDirectory(tmp_path / "run"), []
    with StopSignals() as signals:

        def report(event):
            if event["event"] == "evaluating":
                shares.append(event["done"])
                if event["done"] > 0 and signals.requested is None:
                    os.kill(os.getpid(), number)
                    while signals.requested is None:
                        time.sleep(0.001)

        with pytest.raises(PreemptedError, match=f"stopped by {number.name} at step"):
            train(values, run.path, report=report, signals=signals)
    assert 0 < shares[-1] < 1
    assert run.read_summaries() == []
    assert not run.best_model.exists()
    assert train(values, run.path).reason == "finished"
    assert len(run.read_summaries()) == 4


@pytest.mark.faults
def test_a_command_that_is_just_starting_leaves_nothing_or_resumes(tiny_data, tmp_path, trained_here):
    """Signals come from the first moment of the process; before Python handles signals, nothing is left behind."""
    run, seen = RunDirectory(tmp_path / "run"), set()
    for index in range(12):
        with start(*train_options(tiny_data, run.path, "--max-steps", 40)) as process:
            time.sleep(0.02 + 0.25 * index)
            process.terminate()
            _, err = process.communicate(timeout=LONGEST)
        seen.add(process.returncode)
        assert process.returncode in (75, 143, -signal.SIGTERM), err
        assert "Traceback" not in err
        if process.returncode != 75 and index == 0:
            assert not run.path.exists()
    assert 75 in seen
    assert tttkit(*train_options(tiny_data, run.path, "--max-steps", 40)).code == 0
    assert_equal_runs(run, trained_here)


@pytest.fixture
def trained_here(tiny_data, tmp_path) -> RunDirectory:
    assert run_process(*train_options(tiny_data, tmp_path / "whole", "--max-steps", 40)).code == 0
    return RunDirectory(tmp_path / "whole")


@pytest.mark.parametrize("place", ["first checkpoint", "evaluation", "save", "final model"])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_sigusr1_and_sighup_change_no_bit(values, reference, tmp_path, place, number):
    matches, count = PLACES[place]
    run = RunDirectory(tmp_path / "run")
    assert run_trial(trials.train, values, str(run.path), disk=KilledAt(count, matches, number)) == 0
    assert_equal_runs(run, reference)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_exits_at_once(tmp_path, first, second):
    """It does so even if the main thread never reaches a safe point."""
    process = trials.context.Process(target=trials.stuck, args=(1000.0, str(tmp_path / "ready")))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.kill(process.pid, first)
    process.join(0.2)
    assert process.exitcode is None
    os.kill(process.pid, second)
    process.join(30)
    assert process.exitcode == 128 + second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_saves_and_two_exit(tiny_values, tmp_path, number):
    values = tiny_values(train={"max_steps": 1_000_000}, evaluation={"num_checkpoints": 0})
    process = start_run(values, tmp_path / "run", tmp_path / "log")
    wait_for(tmp_path / "log", '"step": 3', process)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == 75
    run = RunDirectory(tmp_path / "run")
    assert run.read_metadata()["result"]["reason"] == "preempted"
    assert training_checkpoints(run)[0][0] == run.read_metadata()["result"]["step"]
    (tmp_path / "log").unlink()
    process = start_run(values, tmp_path / "run", tmp_path / "log")
    wait_for(tmp_path / "log", '"event": "step"', process)
    os.kill(process.pid, signal.SIGSTOP)  # both signals arrive before the trainer can handle the first
    os.kill(process.pid, number)
    os.kill(process.pid, number if number == signal.SIGTERM else signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    process.join(30)
    assert process.exitcode in (75, 128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_sigusr1_saves_once_and_sighup_is_ignored(tiny_values, tmp_path):
    values = tiny_values(train={"max_steps": 1_000_000, "save_every": 1_000_000}, evaluation={"num_checkpoints": 0})
    process = start_run(values, tmp_path / "run", tmp_path / "log")
    wait_for(tmp_path / "log", '"step": 2', process)
    run = RunDirectory(tmp_path / "run")
    assert [step for step, _ in training_checkpoints(run)] == [0]
    os.kill(process.pid, signal.SIGHUP)
    os.kill(process.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 20
    while len(training_checkpoints(run)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(training_checkpoints(run)) == 2
    saved, num_steps = training_checkpoints(run)[0][0], len(run.read_metrics())
    while len(run.read_metrics()) <= num_steps + 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.is_alive()
    assert len(run.read_metrics()) > num_steps + 5
    assert training_checkpoints(run)[0][0] == saved, "once"
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 75


def test_the_grace_period_ends_a_process_that_cannot_stop(tmp_path):
    """A blocked disk or terminal blocks neither the other one nor the exit of the process."""
    process = trials.context.Process(target=trials.stuck, args=(0.3, str(tmp_path / "ready")))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.join(20)
    assert process.exitcode == 75
    assert time.monotonic() - started >= 0.1
    assert {path.name for path in tmp_path.iterdir()} == {"ready", "ready.disk", "ready.terminal"}


@pytest.mark.faults
def test_a_process_that_cannot_stop_in_time_reports_what_is_lost(tiny_data, tmp_path):
    """The trainer blocks in a write, as in `tttkit train --json | less` when less reads no further."""
    run = tmp_path / "run"
    options = train_options(tiny_data, run, "--max-steps", 100_000, "--json", "--grace", 0.5)
    # With unbuffered streams, a signal would interrupt the line.
    with start(*options, env={"PYTHONUNBUFFERED": ""}) as process:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        while '"event": "step"' not in process.stdout.readline():
            assert process.poll() is None
        wait_until(lambda: "pipe_write" in Path(f"/proc/{process.pid}/wchan").read_text(), process)
        process.terminate()
        assert process.wait(LONGEST) == 75
        said = process.stderr.read()
    assert "error: still busy 0.5 s after SIGTERM; exiting now; the newest training checkpoint is of step " in said
    assert f"hint: resume with `tttkit resume {run}`" in said
    status, stopped = read_status(RunDirectory(run)), RunDirectory(run).read_metadata()["result"]["step"]
    assert status.state == "preempted"
    assert status.saved_step == newest_saved_step(RunDirectory(run)) <= stopped
    assert status.reason == f"stopped by a signal at step {stopped}; {describe_saved(status.saved_step, stopped)}"
