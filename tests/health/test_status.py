"""The status of real runs: starting, training, finished, stopped early, stopped by a signal, killed, and damaged."""

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

from tests.training import train
from tttkit.errors import DataError
from tttkit.health.lifecycle import LIVE_STATES
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.run.saved import describe_saved, newest_saved_step
from tttkit.storage import files
from tttkit.train.logs.metrics import RunLog


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
        train(tiny_values(), trained)
    shutil.copytree(trained, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def test_a_finished_run(finished_run):
    status, summaries = read_status(finished_run), finished_run.read_summaries()
    metrics = finished_run.read_metrics()
    assert (status.state, status.reason) == ("finished", "all steps done at step 12")
    assert (status.step, status.max_steps, status.tokens_seen) == (12, 12, 12 * 4 * 16)
    assert (status.num_evaluations, status.num_evaluations_planned) == (4, 4)
    best = min(summaries, key=lambda summary: summary.selection_ppl)
    assert (status.best_selection_ppl, status.best_step) == (best.selection_ppl, best.step)
    assert status.loss == metrics[-1]["loss"]
    assert status.losses == [record["loss"] for record in metrics]
    assert (status.model, status.patience, status.eta_seconds) == ("ttt-linear", 10, None)
    assert status.latest == summaries[-1].to_dict()
    assert status.log == finished_run.training_log.read_text().splitlines()[-3:]
    assert status.next_command == f"tttkit plot {finished_run.path}"
    assert json.loads(json.dumps(status.to_dict(), allow_nan=False))["schema_version"] == 1


def test_an_early_stopped_run(tiny_values, tmp_path):
    stopping = {"patience": 1, "min_delta": "99%", "min_steps_ratio": 0.0}
    run = train(tiny_values(early_stopping=stopping), tmp_path / "run").run
    status = read_status(run)
    assert status.state == "early-stopped"
    assert status.reason == f"no improvement in 1 evaluations, at step {status.step}"
    assert status.step < status.max_steps
    assert (status.num_waiting, status.patience) == (1, 1)


def test_a_run_from_its_start_to_a_signal_and_its_end(tiny_values, tmp_path, trainer):
    values, out = tiny_values(train={"max_steps": 3000, "save_every": 3000}), tmp_path / "run"
    run = RunDirectory(out)
    with trainer(values, out) as process:
        wait_for(process, "step")
        seen, deadline = set(), time.monotonic() + 20
        while len(read_status(run).losses) < 40 and time.monotonic() < deadline:
            status = read_status(run)  # polled without a pause while it writes
            seen.add(status.state)
            assert status.reason.endswith(f"pid {process.pid}")
        assert seen <= LIVE_STATES
        assert "running" in seen
        assert 0 < status.step < 3000
        assert 0 < status.eta_seconds < 3600
        assert status.num_evaluations >= 1
        assert status.next_command == f"tttkit status {out} --loop"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
    status = read_status(run)
    assert status.state == "preempted"
    assert status.saved_step == status.step == newest_saved_step(run)
    assert status.reason == f"stopped by a signal at step {status.step}; {describe_saved(status.step, status.step)}"
    assert status.eta_seconds is None
    assert status.next_command.endswith(f"  (resumes from step {status.step})")
    with exclusive(run):  # the next process holds the lock but has not written a heartbeat yet
        assert read_status(run).state == "starting"


_HOLDER = """
import sys, time
from pathlib import Path
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.run.saved import describe_saved, newest_saved_step
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
        status = read_status(finished_run)
        assert status.state == "running"
        assert status.reason.endswith(f"pid {process.pid}")
        process.kill()
    status = read_status(finished_run)
    assert status.state == "crashed"
    expected = rf"its process \(pid {process.pid}\) ended without recording why, at most \d+ s ago, at about step 7; "
    saved = re.escape(describe_saved(12, 7))
    assert re.fullmatch(f"{expected}{saved}; it was killed or ran out of memory", status.reason)
    assert status.next_command.endswith("  (resumes from step 12)")


def test_a_run_that_died_before_training(finished_run):
    metadata = finished_run.read_metadata()
    files.write_json(finished_run.metadata, {**metadata, "segments": [], "result": {}})
    finished_run.heartbeat.unlink()
    assert read_status(finished_run).state == "crashed"
    assert read_status(finished_run).reason == "its process ended before training began"


def test_a_run_that_has_just_started(tmp_path):
    run = RunDirectory(tmp_path)
    with exclusive(run):
        status = read_status(run)
        assert (status.state, status.step, status.max_steps, status.log) == ("starting", None, None, [])
        RunLog(run).heartbeat("starting", 0)
        assert read_status(run).state == "starting"
        assert read_status(run).step == 0


@pytest.mark.parametrize(
    ("phase", "state"), [("training", "running"), ("evaluating", "evaluating"), ("saving", "saving")]
)
def test_a_live_process_is_shown_with_its_phase_and_as_stalled_when_it_is_silent(finished_run, phase, state):
    with exclusive(finished_run):
        RunLog(finished_run).heartbeat(phase, 5)
        assert read_status(finished_run).state == state
        beat = finished_run.read_heartbeat()
        files.write_json(finished_run.heartbeat, {**beat, "monotonic": beat["monotonic"] - 200})
        status = read_status(finished_run)
        assert status.state == "stalled"
        assert f"silent for 200 s while {state}" in status.reason


def test_a_live_run_that_waits_for_disk_space(finished_run):
    with exclusive(finished_run):
        log = RunLog(finished_run)
        log.writes.problem = "No space left on device"
        log.heartbeat("training", 5)
        status = read_status(finished_run)
    assert status.state == "disk-full"
    assert status.reason.startswith("training continues and waits for disk space: No space left on device (host ")
    assert status.next_command == f"tttkit doctor {finished_run.path}  (shows how much space the run needs)"


def test_the_heartbeat_of_an_earlier_process_is_ignored(finished_run):
    beat = finished_run.read_heartbeat()
    stale = {**beat, "pid": beat["pid"] + 1, "time": "2020-01-01T00:00:00+00:00", "phase": "training"}
    files.write_json(finished_run.heartbeat, stale)
    with exclusive(finished_run):
        assert read_status(finished_run).state == "starting"


@pytest.mark.parametrize(("age", "expected"), [(0, 900), (100, 800), (2000, 0)])
def test_remaining_time_is_the_expected_time_minus_the_time_since(finished_run, age, expected):
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    line = json.dumps({"step": 13, "eta_seconds": 900.0, "time": then.isoformat()})
    files.append_lines(finished_run.metrics, [line])
    with exclusive(finished_run):
        RunLog(finished_run).heartbeat("training", 13)
        assert read_status(finished_run).eta_seconds == pytest.approx(expected, abs=20)


def test_an_oom_kill_is_recognized(finished_run, tmp_path, monkeypatch):
    """The counter of the control group has grown since the last heartbeat."""
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 1\noom_kill 4\n")
    monkeypatch.setattr("tttkit.run.cgroups.groups", lambda _: [tmp_path])
    metadata = finished_run.read_metadata()
    del metadata["result"]
    files.write_json(finished_run.metadata, metadata)
    with exclusive(finished_run):
        RunLog(finished_run).heartbeat("training", 9)
    assert read_status(finished_run).reason.endswith("; it was killed or ran out of memory")
    counter.write_text("low 0\noom 1\noom_kill 5\n")
    status = read_status(finished_run)
    assert status.state == "crashed"
    assert status.reason.endswith(
        "; probably OOM-killed: the kernel has killed 1 process for lack of memory since the last heartbeat"
    )


def test_the_surroundings_of_a_run(finished_run):
    status = read_status(finished_run)
    assert status.saved_step == 12
    assert 0 <= status.saved_seconds_ago < 3600
    whole = sum(file.stat().st_size for file in finished_run.path.rglob("*") if file.is_file())
    assert status.disk_used_bytes == whole
    assert status.disk_free_bytes > 0
    assert status.gpus == []
    last = finished_run.read_summaries()[-1]
    assert status.advantage["label"] == "5xW"
    assert status.advantage["ratio"] == last.ratio("sw", 5).value
    assert status.advantage["full_ppl"] == last.perplexity("full", 5)
    assert status.selection_ppls == [item.selection_ppl for item in finished_run.read_summaries()]
    shutil.rmtree(finished_run.states)
    assert read_status(finished_run).saved_step is None


def test_torn_and_foreign_lines_of_the_metrics_are_skipped(finished_run):
    whole = read_status(finished_run)
    text = finished_run.metrics.read_text()
    for torn in ('{"step": 13, "lo', "{", "\x00\xff", '{"step": 13, "loss": 1.0, "tokens_per_second": 5}'):
        finished_run.metrics.write_text(text + torn)
        assert read_status(finished_run).losses == whole.losses
    finished_run.metrics.write_text(text + '[1]\n{"loss": 1}\nnull\n{"step": 13, "loss": "NaN", "ppl": "Infinity"}\n')
    status = read_status(finished_run)
    assert (status.step, status.loss, status.ppl) == (13, None, None)
    assert status.losses == whole.losses


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
    status = read_status(RunDirectory(runs / "length_gen_study_w64_500ckpt"))
    assert (status.state, status.step, status.num_evaluations) == ("unknown", 100_000, 501)
    assert (status.best_step, status.patience) == (None, None)
    shutil.copy(runs / "curriculum_exp_long" / "metadata.json", tmp_path)
    status = read_status(RunDirectory(tmp_path))
    assert (status.state, status.max_steps, status.num_evaluations_planned) == ("unknown", 100_000, 50)


def test_no_torch_and_no_matplotlib_are_loaded():
    script = (
        "import sys, tttkit.health.status; print([n for n in ('torch', 'matplotlib', 'numpy') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
