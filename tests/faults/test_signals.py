"""D1, D2: signals at any moment; the last step is in a state on disk, and the run goes on from it with equal bits."""

from __future__ import annotations

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
from tttkit.run.saved import training_checkpoints
from tttkit.run.signals import StopSignals


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
    """SIGTERM at random times until `count` came through or the run ended; each is answered within 10 s by code 75."""
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
            assert training_checkpoints(run)[0][0] >= last, "the last step is in the state"
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


def test_d1_sigterm_at_random_times(values, reference, tmp_path):
    _stop_at_random(values, reference, tmp_path, 4)


@pytest.mark.faults
def test_d1_40_sigterms(values, reference, tmp_path):
    _stop_at_random(values, reference, tmp_path, 40)


@pytest.mark.faults
def test_d1_first_compile(tiny_values, tmp_path):
    """The first compilation takes a minute; the signal does not wait for it."""
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
    "first state": (Touching("state"), 1),
    "evaluation": (Touching("checkpoint_001"), 3),
    "best model": (Touching("best_model"), 20),
    "save": (Touching("state/.tmp-step_5"), 4),
    "retention": (Touching("state/.tmp-step_", removing=True), 2),
    "final model": (Touching("final_model"), 5),
}
"""Where a signal comes: before which of which calls."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_d1_stops_in_the_middle_of_anything(values, reference, tmp_path, place, number):
    """Half of what was begun is done, then the run stops, and goes on with equal bits."""
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
def test_d1_the_last_step_is_saved_however_far_the_last_save_is(tiny_values, reference_of, tmp_path, number):
    """While step 6 is logged: it stops at the next safe point, not at the next evaluation or save."""
    values = tiny_values(train={"save_every": 1000})
    run, logging = RunDirectory(tmp_path / "run"), KilledAt(6, Touching("metrics.jsonl"), number)
    assert run_trial(trials.train, values, str(run.path), disk=logging, log=str(tmp_path / "log")) == 75
    step = run.read_metadata()["result"]["step"]
    assert step in (6, 7)
    assert (
        f"error: stopped by {number.name} at step {step} of 12; training checkpoint of step {step} saved"
        in (tmp_path / "log").read_text()
    )
    assert training_checkpoints(run)[0][0] == step
    assert run_trial(trials.train, values, str(run.path)) == 0
    assert_equal_runs(run, reference_of(values))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_d1_an_evaluation_is_left_in_the_middle(values, tmp_path, number):
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
    assert train(values, run.path, report=lambda event: None).reason == "finished"
    assert len(run.read_summaries()) == 4


@pytest.mark.faults
def test_d1_a_command_that_is_just_starting(tiny_data, tmp_path, trained_here):
    """From the first moment of the process on. Before Python heeds signals it leaves nothing behind."""
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


@pytest.mark.parametrize("place", ["first state", "evaluation", "save", "final model"])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_d2_usr1_and_hup_change_no_bit(values, reference, tmp_path, place, number):
    matches, count = PLACES[place]
    run = RunDirectory(tmp_path / "run")
    assert run_trial(trials.train, values, str(run.path), disk=KilledAt(count, matches, number)) == 0
    assert_equal_runs(run, reference)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_d2_the_second_signal_leaves_at_once(tmp_path, first, second):
    """Also where the main thread never comes to a safe point."""
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
def test_d2_once_saves_and_twice_leaves(tiny_values, tmp_path, number):
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
    os.kill(process.pid, signal.SIGSTOP)  # both are there before the trainer can heed the first
    os.kill(process.pid, number)
    os.kill(process.pid, number if number == signal.SIGTERM else signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    process.join(30)
    assert process.exitcode in (75, 128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_d2_usr1_saves_and_goes_on_and_hup_is_nothing(tiny_values, tmp_path):
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


def test_d2_grace_period_ends_a_process_that_cannot_stop(tmp_path):
    """A disk or a terminal that is held up holds neither the other nor the process up."""
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
def test_d2_who_cannot_stop_in_time_says_what_is_lost(tiny_data, tmp_path):
    """As in `tttkit train --json | less`, whose reader does not read on: the trainer waits in the middle of a write."""
    run = tmp_path / "run"
    options = train_options(tiny_data, run, "--max-steps", 100_000, "--json", "--grace", 0.5)
    with start(*options, env={"PYTHONUNBUFFERED": ""}) as process:  # unbuffered, a signal would cut the line short
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        wait_until(lambda: "pipe_write" in Path(f"/proc/{process.pid}/wchan").read_text(), process)
        process.terminate()
        assert process.wait(LONGEST) == 75
        said = process.stderr.read()
    assert "error: still busy 0.5 s after SIGTERM; exiting now; the newest training checkpoint is of step " in said
    assert f"hint: go on with `tttkit resume {run}`" in said
    assert read_status(RunDirectory(run)).state == "preempted"
