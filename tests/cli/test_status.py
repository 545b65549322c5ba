"""`tttkit status` on runs with every run status."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import termios
import time
from pathlib import Path

import pytest

from tests.cli.conftest import start, train_options, tttkit, wait_until
from tttkit.run.directory import STUDY_FILE, TRIALS, RunDirectory
from tttkit.run.lock import exclusive
from tttkit.train.logs.metrics import RunLog


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run for tests that change it, with the command that would have made it."""
    copied = Path(shutil.copytree(finished, tmp_path / "run"))
    metadata = json.loads((copied / "metadata.json").read_text())
    (copied / "metadata.json").write_text(
        json.dumps({**metadata, "command": ["tttkit", "train", "--out", str(copied)]})
    )
    return copied


def look(run) -> dict:
    return json.loads(tttkit("status", run, "--json").out)


def forget_result(run):
    metadata = json.loads((run / "metadata.json").read_text())
    del metadata["result"]
    (run / "metadata.json").write_text(json.dumps(metadata))


def test_without_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = tttkit("status")
    assert result.code == 2
    assert "no run found under runs/" in result.error
    assert "tttkit train" in result.error


def test_the_newest_run_under_runs(finished, monkeypatch):
    monkeypatch.chdir(finished.parent.parent)
    assert "runs/small" in tttkit("status").out


def test_finished(finished):
    result = tttkit("status", finished)
    assert result.code == 0
    for shown in ("finished: all steps done", "6 of 6 (100%)", "3 of 3", "selection_ppl", "0/10", "20 x W"):
        assert shown in result.out
    assert "finished at step 6" in result.out.splitlines()[-1], "the log's last line comes last"
    assert f"next: tttkit plot {finished}" in result.err
    values = look(finished)
    assert (values["schema_version"], values["state"], values["step"], values["max_steps"]) == (1, "finished", 6, 6)


def test_several_runs(finished, run):
    values = json.loads(tttkit("status", finished, run, "--json").out)
    assert [item["run"] for item in values] == [str(finished), str(run)]


def test_a_study_is_a_list_even_with_one_run(finished, tmp_path):
    (tmp_path / TRIALS).mkdir()
    (tmp_path / TRIALS / "one").symlink_to(finished)
    (tmp_path / STUDY_FILE).write_text("{}")
    assert [item["state"] for item in json.loads(tttkit("status", tmp_path, "--json").out)] == ["finished"]


@pytest.mark.parametrize("name", ["--curriculum-dir", "--curriculum_dir"])
def test_the_earlier_name_of_run(finished, name):
    assert "finished" in tttkit("status", name, finished).out


def test_starting_then_crashed(run):
    """First a process holds the lock and has done nothing yet; then it is gone and has left no result."""
    for leftover in ("metrics.jsonl", "all_summaries.json", "training.log", "heartbeat.json"):
        (run / leftover).unlink()
    forget_result(run)
    with exclusive(RunDirectory(run)):
        values = look(run)
        assert (values["state"], values["step"], values["eta_seconds"]) == ("starting", None, None)
        assert tttkit("status", run, "--check").code == 0
    assert look(run)["state"] == "crashed"
    assert tttkit("status", run, "--check").code == 4


def test_a_run_without_evaluations(run):
    metadata = json.loads((run / "metadata.json").read_text())
    (run / "metadata.json").write_text(json.dumps({**metadata, "num_evaluations_planned": 0}))
    assert "none planned" not in tttkit("status", run).out, "it has evaluations"
    (run / "all_summaries.json").unlink()
    assert "none planned" in tttkit("status", run).out


def test_running_then_preempted_then_killed(tiny_data, tmp_path):
    run = tmp_path / "run"
    # On a busy disk, a save may take longer than the default grace period of ten seconds and end in another error.
    options = train_options(tiny_data, run, "--max-steps", 100_000, "--save-every", 1000, "--grace", 100)
    with start(*options) as process:
        wait_until(lambda: (run / "metrics.jsonl").exists() and look(run)["step"], process)
        values = look(run)
        assert values["state"] in ("running", "saving", "evaluating")
        assert values["max_steps"] == 100_000
        assert values["eta_seconds"] > 0
        assert "ETA" in tttkit("status", run).out
        second = tttkit(*options)
        assert second.code == 73
        assert f"is in use by host {socket.gethostname()}, pid {process.pid}" in second.error

        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "error: stopped by SIGTERM at step" in err
    assert f"hint: resume with `tttkit resume {run}`" in err
    stopped = look(run)
    assert stopped["state"] == "preempted"
    assert stopped["next_command"].startswith("tttkit resume ")

    with start(*options) as process:
        wait_until(lambda: look(run)["step"] > stopped["step"], process)
    assert look(run)["state"] == "crashed"


def test_loop_ends_with_ctrl_c_without_an_error(finished):
    with start("status", finished, "--loop", "--interval", "0.1", "--json") as process:
        values = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert [item["state"] for item in values] == ["finished"] * 3


def test_loop_ends_when_its_reader_is_gone(finished):
    with start("status", finished, "--loop", "--interval", "0.1") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 0


def test_status_writes_nothing_and_shows_skipped_updates(run, tmp_path, monkeypatch):
    record = {"step": 9, "loss": 1.25, "ppl": 3.5, "tokens_seen": 576, "tokens_per_second": 100.0, "num_skipped": 2}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    forget_result(run)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert "2 updates that were not finite" in tttkit("status", run).out
    assert look(run)["step"] == 9
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert list(home.rglob("*")) == []


def test_all_vital_figures(run):
    out = tttkit("status", run).out
    for name in (
        "status",
        "model",
        "step",
        "loss",
        "evaluations",
        "SW/full",
        "best",
        "patience",
        "speed",
        "saved",
        "disk",
    ):
        assert re.search(rf"^{name} ", out, re.M), name
    assert "training checkpoint of step 6, " in out
    assert re.search(r"selection_ppl [\d.]+ [▁-█]{3}", out), "the curve of the evaluations"
    assert re.search(r"SW/full +[\d.]+ \[[\d.]+, [\d.]+\] at 20 x W", out)


def test_several_runs_in_one_table(finished, run):
    forget_result(run)
    result = tttkit("status", finished, run)
    table = [line for line in result.out.splitlines() if line.startswith("│")]
    assert len(table) == 2
    assert "finished" in table[0]
    assert "crashed" in table[1]
    assert f"{run}: crashed: its process" in result.out, "the reason for a run that needs attention"
    assert result.err.count("next: ") == 2


ENDS = {
    "finished": (0, "tttkit plot"), "early-stopped": (0, "tttkit plot"), "preempted": (0, "tttkit resume"),
    "nan-stopped": (5, "tttkit train"), "disk-full": (6, "tttkit resume"), "crashed": (4, "tttkit resume"),
}  # fmt: skip
PHASES = {"starting": "starting", "training": "running", "evaluating": "evaluating", "saving": "saving"}


def end_as(run, reason):
    metadata = json.loads((run / "metadata.json").read_text())
    metadata["result"] |= {"reason": reason}
    (run / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize("state", ENDS)
def test_every_end_has_a_reason_a_next_command_and_a_code(finished, run, state):
    forget_result(run) if state == "crashed" else end_as(run, state)
    code, command = ENDS[state]
    values, alone = look(run), tttkit("status", run, "--check")
    assert values["state"] == state
    reason = without_seconds(values["reason"])
    assert reason
    assert (alone.code, f"{state}: {reason}" in without_seconds(" ".join(alone.out.split()))) == (code, True)
    assert f"next: {command}" in alone.err
    several = tttkit("status", finished, run, "--check")
    assert several.code == code
    assert f"next: {run}: {command}" in several.err
    if state not in ("finished", "early-stopped"):
        assert f"{run}: {state}: {reason}" in without_seconds(several.out)


def without_seconds(text: str) -> str:
    """Replace the seconds since a crash, which may differ between two calls."""
    return re.sub(r"\d+ s ago", "N s ago", text)


def test_the_command_after_nan_halves_the_learning_rate_in_another_run(run):
    end_as(run, "nan-stopped")
    command = shlex.split(look(run)["next_command"])
    assert command[-4:] == ["--learning-rate", "0.0015", "--out", f"{run}-lower-learning-rate"]
    assert tttkit(*command[1:], "--dry-run").code == 0


@pytest.mark.parametrize("phase", PHASES)
def test_every_status_of_a_live_run_says_how_to_watch_it(finished, run, phase):
    with exclusive(RunDirectory(run)):
        RunLog(RunDirectory(run)).heartbeat(phase, 5)
        several = tttkit("status", finished, run, "--check")
    assert several.code == 0
    assert f" {PHASES[phase]} " in next(
        line for line in several.out.splitlines() if line.startswith("│") and str(run) in line
    )
    assert f"next: {run}: tttkit status {run} --loop" in several.err


def test_a_silent_run_and_one_of_another_host(run):
    forget_result(run)
    with exclusive(RunDirectory(run)):
        RunLog(RunDirectory(run)).heartbeat("training", 5)
        beat = json.loads((run / "heartbeat.json").read_text())
        (run / "heartbeat.json").write_text(json.dumps({**beat, "monotonic": beat["monotonic"] - 200}))
        silent = tttkit("status", run, "--check")
    assert silent.code == 3
    assert "stalled: alive, but silent for 200 s while running" in " ".join(silent.out.split())
    assert f"next: kill {beat['pid']}; tttkit resume {run}" in silent.err
    (run / "heartbeat.json").write_text(json.dumps({**beat, "host": "elsewhere", "boot_id": "another"}))
    foreign = tttkit("status", run, "--check")
    assert foreign.code == 0
    assert "unknown: host elsewhere" in foreign.out
    assert f"next: ssh elsewhere tttkit status {run}" in foreign.err


def test_loop_on_a_terminal_uses_the_alternate_screen(finished):
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    environment = {"TERM": "xterm", "NO_COLOR": "1"}
    with start("status", finished, "--loop", **streams, env=environment, start_new_session=True) as process:
        os.close(theirs)
        set_size(ours, 100)
        shown = read_until(ours, "Ctrl-C ends")
        assert "\x1b[?1049h" in shown
        assert "next in" in shown
        set_size(ours, 50)
        narrow = read_until(ours, "SW/full ┃")  # the table without the interval, which needs 80 columns
        assert "Traceback" not in narrow
        process.send_signal(signal.SIGINT)
        rest = read_until(ours, "\x1b[?1049l")
        assert "Traceback" not in rest
        assert process.wait(timeout=30) == 0
    os.close(ours)


def test_a_block_per_interval_when_piped(finished):
    with start("status", finished, "--loop", "--interval", "0.2") as process:
        seen = [process.stdout.readline() for _ in range(60)]
    stamps = [line for line in seen if line.startswith("== 20")]
    assert len(stamps) >= 2
    assert not any("\x1b" in line for line in seen)


def set_size(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))


def read_until(terminal, text):
    shown, deadline = "", time.monotonic() + 60
    while text not in shown and text not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 65_536).decode(errors="replace")
    return shown


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "soon"])
def test_wrong_interval(finished, interval):
    result = tttkit("status", finished, "--interval", interval)
    assert result.code == 2
    assert "--interval" in result.error


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "no such run directory"), ("run/training.log", "is a file"), ("run/state", "is not a run directory")],
)
def test_no_run(run, path, message):
    result = tttkit("status", run.parent / path)
    assert result.code == 2
    assert message in result.error


@pytest.mark.parametrize(
    ("file", "content"),
    [("metadata.json", "{"), ("metadata.json", '{"schema_version": 99}'), ("all_summaries.json", "{}")],
)
def test_damaged_files(run, file, content):
    (run / file).write_text(content)
    result = tttkit("status", run)
    assert result.code == 65
    assert file in result.error
