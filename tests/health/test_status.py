"""The state of real runs: as they start, train, end, stop early, are preempted, are killed; and of damaged ones."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tttkit.errors import DataError
from tttkit.health.run_state import LIVE_STATES
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.storage import files
from tttkit.train.logs.metrics import RunLog
from tttkit.train.start import train


def train_here(values, out):
    return train(values, out, report=lambda _: None).run


def wait_for(process, event):
    for line in process.stdout:
        if line.strip() == event:
            return
    raise AssertionError(f"the trainer ended without the event {event}")


@pytest.fixture
def finished_run(tiny_values, tmp_path, tmp_path_factory):
    """A copy of a run that was trained once."""
    trained = tmp_path_factory.getbasetemp() / "trained"
    if not trained.exists():
        train_here(tiny_values(), trained)
    shutil.copytree(trained, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def test_a_finished_run(finished_run):
    found, summaries = read_status(finished_run), finished_run.read_summaries()
    metrics = finished_run.read_metrics()
    assert (found.state, found.reason) == ("finished", "all steps done, at step 12")
    assert (found.step, found.max_steps, found.tokens_seen) == (12, 12, 12 * 4 * 16)
    assert (found.num_evaluations, found.num_evaluations_planned) == (4, 4)
    best = min(summaries, key=lambda summary: summary.selection_ppl)
    assert (found.best_selection_ppl, found.best_step) == (best.selection_ppl, best.step)
    assert found.loss == metrics[-1]["loss"]
    assert found.losses == [record["loss"] for record in metrics]
    assert (found.model, found.patience, found.eta_seconds) == ("ttt-linear", 10, None)
    assert found.latest == summaries[-1].to_dict()
    assert found.log == finished_run.training_log.read_text().splitlines()[-3:]
    assert found.next_command == f"tttkit plot {finished_run.path}"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["schema_version"] == 1


def test_an_early_stopped_run(tiny_values, tmp_path):
    stopping = {"patience": 1, "min_delta": "99%", "min_steps_ratio": 0.0}
    run = train_here(tiny_values(early_stopping=stopping), tmp_path / "run")
    found = read_status(run)
    assert found.state == "early-stopped"
    assert found.reason == f"no improvement in 1 evaluations, at step {found.step}"
    assert found.step < found.max_steps
    assert (found.num_waiting, found.patience) == (1, 1)


def test_a_run_from_its_start_to_a_signal_and_its_end(tiny_values, tmp_path, trainer):
    values, out = tiny_values(train={"max_steps": 3000, "save_every": 3000}), tmp_path / "run"
    run = RunDirectory(out)
    with trainer(values, out) as process:
        wait_for(process, "step")
        seen, deadline = set(), time.monotonic() + 20
        while len(read_status(run).losses) < 40 and time.monotonic() < deadline:
            found = read_status(run)  # polled without a pause while it writes
            seen.add(found.state)
            assert found.reason.endswith(f"pid {process.pid}")
        assert seen <= LIVE_STATES
        assert "running" in seen
        assert 0 < found.step < 3000
        assert 0 < found.eta_seconds < 3600
        assert found.num_evaluations >= 1
        assert found.next_command == f"tttkit status {out} --loop"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
    found = read_status(run)
    assert found.state == "preempted"
    assert found.reason == f"a signal stopped it at step {found.step}; its state is saved"
    assert found.eta_seconds is None
    assert "goes on from the last saved state" in found.next_command
    with exclusive(run):  # the next process has the lock and not yet written a heartbeat
        assert read_status(run).state == "starting"


_HOLDER = """
import sys, time
from pathlib import Path
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.train.logs.metrics import RunLog
run = RunDirectory(Path(sys.argv[1]))
with exclusive(run):
    RunLog(run).heartbeat("training", 7)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_is_crashed_at_once(finished_run):
    metadata = finished_run.read_metadata()
    del metadata["result"]
    files.write_json(finished_run.metadata, metadata)
    command = [sys.executable, "-c", _HOLDER, str(finished_run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(process, "ready")
        found = read_status(finished_run)
        assert found.state == "running"
        assert found.reason.endswith(f"pid {process.pid}")
        process.kill()
    found = read_status(finished_run)
    assert found.state == "crashed"
    expected = (
        rf"its process \(pid {process.pid}\) ended without saying why, \d+ s ago at the latest, at about step 7, "
    )
    assert re.fullmatch(f"{expected}0 steps after the last saved state; killed, or out of memory", found.reason)
    assert "goes on from the last saved state" in found.next_command


def test_a_run_that_died_before_training(finished_run):
    metadata = finished_run.read_metadata()
    files.write_json(finished_run.metadata, {**metadata, "segments": [], "result": {}})
    finished_run.heartbeat.unlink()
    assert read_status(finished_run).state == "crashed"
    assert read_status(finished_run).reason == "its process ended before training began"


def test_the_first_moments_of_a_run(tmp_path):
    run = RunDirectory(tmp_path)
    with exclusive(run):
        found = read_status(run)
        assert (found.state, found.step, found.max_steps, found.log) == ("starting", None, None, [])
        RunLog(run).heartbeat("starting", 0)
        assert read_status(run).state == "starting"
        assert read_status(run).step == 0


@pytest.mark.parametrize(
    ("phase", "state"), [("training", "running"), ("evaluating", "evaluating"), ("saving", "saving")]
)
def test_what_a_living_process_does_and_when_it_falls_silent(finished_run, phase, state):
    with exclusive(finished_run):
        RunLog(finished_run).heartbeat(phase, 5)
        assert read_status(finished_run).state == state
        beat = finished_run.read_heartbeat()
        files.write_json(finished_run.heartbeat, {**beat, "monotonic": beat["monotonic"] - 200})
        found = read_status(finished_run)
        assert found.state == "stalled"
        assert f"silent for 200 s while {state}" in found.reason


def test_a_living_run_that_waits_for_room(finished_run):
    with exclusive(finished_run):
        log = RunLog(finished_run)
        log.writes.problem = "No space left on device"
        log.heartbeat("training", 5)
        found = read_status(finished_run)
    assert found.state == "disk-full"
    assert found.reason.startswith("training goes on and waits for room: No space left on device (host ")
    assert found.next_command == f"tttkit doctor {finished_run.path}  (says how much room it needs)"


def test_the_heartbeat_of_an_earlier_process_says_nothing_about_the_next(finished_run):
    beat = finished_run.read_heartbeat()
    stale = {**beat, "pid": beat["pid"] + 1, "time": "2020-01-01T00:00:00+00:00", "phase": "training"}
    files.write_json(finished_run.heartbeat, stale)
    with exclusive(finished_run):
        assert read_status(finished_run).state == "starting"


@pytest.mark.parametrize(("age", "expected"), [(0, 900), (100, 800), (2000, 0)])
def test_time_left_is_what_the_trainer_expected_less_the_time_since(finished_run, age, expected):
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    line = json.dumps({"step": 13, "eta_seconds": 900.0, "time": then.isoformat()})
    files.append_lines(finished_run.metrics, [line])
    with exclusive(finished_run):
        RunLog(finished_run).heartbeat("training", 13)
        assert read_status(finished_run).eta_seconds == pytest.approx(expected, abs=20)


def test_a_kill_for_want_of_memory_is_called_so(finished_run, tmp_path, monkeypatch):
    """The counter of the control group grew since the last heartbeat."""
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 1\noom_kill 4\n")
    monkeypatch.setattr("tttkit.run.memory_events.own_cgroup", lambda: tmp_path)
    metadata = finished_run.read_metadata()
    del metadata["result"]
    files.write_json(finished_run.metadata, metadata)
    with exclusive(finished_run):
        RunLog(finished_run).heartbeat("training", 9)
    assert read_status(finished_run).reason.endswith("; killed, or out of memory")
    counter.write_text("low 0\noom 1\noom_kill 5\n")
    found = read_status(finished_run)
    assert found.state == "crashed"
    assert found.reason.endswith("; probably OOM-killed: 1 such kill counted since its last sign of life")


def test_what_surrounds_a_run(finished_run):
    found = read_status(finished_run)
    assert found.saved_step == 12
    assert 0 <= found.saved_seconds_ago < 3600
    whole = sum(file.stat().st_size for file in finished_run.path.rglob("*") if file.is_file())
    assert found.disk_used_bytes == whole
    assert found.disk_free_bytes > 0
    assert found.gpus == []
    last = finished_run.read_summaries()[-1]
    assert found.advantage["label"] == "5xW"
    assert (found.advantage["ratio"], found.advantage["full_ppl"]) == (last.ratio("sw", 5).value, last.perplexity("full", 5))
    assert found.selection_ppls == [item.selection_ppl for item in finished_run.read_summaries()]
    shutil.rmtree(finished_run.states)
    assert read_status(finished_run).saved_step is None


def test_torn_and_foreign_lines_of_the_metrics_are_passed_over(finished_run):
    whole = read_status(finished_run)
    text = finished_run.metrics.read_text()
    for torn in ('{"step": 13, "lo', "{", "\x00\xff", '{"step": 13, "loss": 1.0, "tokens_per_second": 5}'):
        finished_run.metrics.write_text(text + torn)
        assert read_status(finished_run).losses == whole.losses
    finished_run.metrics.write_text(text + '[1]\n{"loss": 1}\nnull\n{"step": 13, "loss": "NaN", "ppl": "Infinity"}\n')
    found = read_status(finished_run)
    assert (found.step, found.loss, found.ppl) == (13, None, None)
    assert found.losses == whole.losses


def test_every_prefix_of_the_metrics_can_be_read(finished_run):
    data = finished_run.metrics.read_bytes()
    with exclusive(finished_run):
        RunLog(finished_run).heartbeat("training", 12)
        for length in range(0, len(data), 97):
            finished_run.metrics.write_bytes(data[:length])
            assert len(read_status(finished_run).losses) == data[:length].count(b"\n")


def test_many_losses_are_thinned_and_keep_both_ends(finished_run):
    records = [{"step": step, "loss": float(step)} for step in range(1, 1001)]
    finished_run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    losses = read_status(finished_run).losses
    assert (len(losses), losses[0], losses[-1]) == (40, 1.0, 1000.0)
    assert losses == sorted(losses)


def test_a_damaged_file_is_named(finished_run):
    finished_run.summaries.write_text("[{]")
    with pytest.raises(DataError, match="all_summaries.json is not valid JSON"):
        read_status(finished_run)


def test_the_earlier_systems_runs(shared, tmp_path):
    runs = shared / "data" / "legacy_runs"
    found = read_status(RunDirectory(runs / "length_gen_study_w64_500ckpt"))
    assert (found.state, found.step, found.num_evaluations) == ("unknown", 100_000, 501)
    assert (found.best_step, found.patience) == (None, None)
    shutil.copy(runs / "curriculum_exp_long" / "metadata.json", tmp_path)
    found = read_status(RunDirectory(tmp_path))
    assert (found.state, found.max_steps, found.num_evaluations_planned) == ("unknown", 100_000, 50)


def test_no_torch_and_no_matplotlib_are_loaded():
    script = (
        "import sys, tttkit.health.status; print([n for n in ('torch', 'matplotlib', 'numpy') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
