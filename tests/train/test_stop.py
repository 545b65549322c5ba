"""A stopped run reports only saved work that is on disk: on stderr, in training.log and in metadata.json."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import SMALL, wait_until
from tests.training import train
from tttkit.errors import PreemptedError
from tttkit.run.directory import RunDirectory
from tttkit.run.signals import StopSignals

_COMMAND = """
import sys, time
from tttkit.errors import DiskFullError
from tttkit.train.resume import checkpoint

write_tensors, num_saves = checkpoint.write_tensors, 0

def broken(path, tensors):
    global num_saves
    num_saves += 1
    if num_saves > 1:
        {harm}
    write_tensors(path, tensors)

checkpoint.write_tensors = broken
from tttkit_cli.app import main
main()
"""
HANGS, FAILS = "time.sleep(1000)", "raise DiskFullError('disk full')"


def stop(data, run: RunDirectory, harm: str, grace: float) -> tuple[int, str]:
    """Stop a training run whose second save is broken; return exit code and stderr."""
    command = [sys.executable, "-c", _COMMAND.format(harm=harm), "train", "--data", str(data), "--out", str(run.path)]
    options = ["--max-steps=100000", "--num-eval-checkpoints=0", "--plain", f"--grace={grace}", *SMALL]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command += [*options, "--save-every=100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        wait_until(lambda: len(run.read_metrics()) > 2, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_a_save_that_outlasts_the_grace_period_is_not_called_saved(tiny_data, tmp_path):
    run = RunDirectory(tmp_path / "run")
    code, err = stop(tiny_data, run, HANGS, grace=2)
    assert code == 75
    assert "error: still busy 2 s after SIGTERM; exiting now; " in err
    assert "the newest training checkpoint is of step 0; steps after it are lost" in err
    result = run.read_metadata()["result"]
    assert result["reason"] == "preempted"
    assert (result["saved_step"], result["step"] > 0) == (0, True)


def test_a_save_that_fails_while_stopping_is_not_called_saved(tiny_data, tmp_path):
    run = RunDirectory(tmp_path / "run")
    code, err = stop(tiny_data, run, FAILS, grace=60)
    assert code == 75
    result = run.read_metadata()["result"]
    step = result["step"]
    assert (result["reason"], result["saved_step"]) == ("preempted", 0)
    said = (
        f"stopped by SIGTERM at step {step} of 100000; the newest training checkpoint is of step 0; {step} steps after "
        f"it are lost (training checkpoint of step {step} not saved: disk full)"
    )
    assert said in err
    assert said in run.training_log.read_text()


def test_a_run_that_could_save_names_the_step(tiny_values, tmp_path):
    run = RunDirectory(tmp_path / "run")
    with StopSignals() as signals:

        def stop_at_step_6(event):
            if event["event"] == "step" and event["step"] == 6:
                os.kill(os.getpid(), signal.SIGTERM)
                while signals.requested is None:
                    pass

        with pytest.raises(PreemptedError, match="step 6 of 12; training checkpoint of step 6 saved"):
            train(tiny_values(), run.path, report=stop_at_step_6, signals=signals)
    assert run.read_metadata()["result"] == {
        "reason": "preempted", "step": 6, "tokens_seen": 6 * 4 * 16, "saved_step": 6,
    }  # fmt: skip


def test_sigusr1_logs_what_is_saved(tiny_values, tmp_path, monkeypatch):
    """If a requested save fails, the log says so."""
    from tttkit.errors import DiskFullError
    from tttkit.train.resume import checkpoint

    write_tensors, is_broken = checkpoint.write_tensors, False
    requests = iter([False] * 3 + [True, True])
    monkeypatch.setattr(StopSignals, "take_save_request", lambda _: next(requests, False))

    def write(path, tensors):
        if is_broken:
            raise DiskFullError("disk full")
        write_tensors(path, tensors)

    def break_at_step_4(event):
        nonlocal is_broken
        is_broken = event["event"] == "step" and event["step"] == 4

    monkeypatch.setattr(checkpoint, "write_tensors", write)
    values = tiny_values(train={"save_every": 100}, evaluation={"num_checkpoints": 0})
    run = train(values, tmp_path / "run", report=break_at_step_4).run
    lines = re.findall("SIGUSR1: (.*)", run.training_log.read_text())
    assert lines == [
        "training checkpoint of step 3 saved; training continues",
        "the newest training checkpoint is of step 3; 1 step after it is lost; training continues",
    ]
