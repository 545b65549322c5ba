"""The order of steps, evaluations and saves, and what happens when one of them fails."""

from __future__ import annotations

import math

import pytest

from tests.training import train
from tttkit.errors import DiskFullError, NumericalError
from tttkit.run.saved import training_checkpoints
from tttkit.storage import files
from tttkit.train import update
from tttkit.train.resume import checkpoint


def order(values, out) -> list[str]:
    """Return the events of a run in order: `e0` an evaluation, `s0` a save, `0` a logged step, `!` a warning."""
    marks = {"evaluation": "e{}", "saved": "s{}", "step": "{}", "warning": "!{}"}
    seen = []

    def report(event):
        if event["event"] in marks:
            step = event["summary"]["step"] if event["event"] == "evaluation" else event["step"]
            seen.append(marks[event["event"]].format(step))

    train(values, out, report=report)
    return seen


def test_evaluations_come_before_saves_and_saves_before_steps(tiny_values, tmp_path):
    values = tiny_values(
        train={"max_steps": 6, "save_every": 2}, evaluation={"num_checkpoints": 3}, early_stopping={"enabled": False}
    )
    assert order(values, tmp_path / "run") == [
        "e0", "s0", "1", "2", "s2", "3", "e3", "4", "s4", "5", "6", "e6", "s6",
    ]  # fmt: skip


def test_a_resumed_run_continues_after_its_checkpoint(tiny_values, tmp_path):
    values = tiny_values(train={"max_steps": 6, "save_every": 2}, evaluation={"num_checkpoints": 3})

    class KilledError(Exception):
        """Simulates a kill."""

    def kill(event):
        if event["event"] == "evaluation" and event["summary"]["step"] == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(values, tmp_path / "run", report=kill)
    assert order(values, tmp_path / "run") == ["3", "e3", "4", "s4", "5", "6", "e6", "s6"]


def test_divergence_rolls_back_once_to_the_newest_checkpoint(tiny_values, tmp_path, monkeypatch):
    backward, num_updates = update.Updater._backward, 0

    def poisoned(updater, batch, share):
        nonlocal num_updates
        num_updates += 1
        return backward(updater, batch, share) * (math.nan if num_updates in bad else 1)

    monkeypatch.setattr(update.Updater, "_backward", poisoned)
    values = tiny_values(train={"max_steps": 6, "save_every": 2}, evaluation={"num_checkpoints": 0})
    bad = {3, 4, 5}
    assert order(values, tmp_path / "once") == [
        "s0", "1", "2", "s2", "3", "4", "s4", "5", "!4", "s4", "5", "6", "s6",
    ]  # fmt: skip
    bad, num_updates = set(range(3, 99)), 0
    with pytest.raises(NumericalError, match="after a rollback") as error:
        train(values, tmp_path / "twice")
    assert "the newest training checkpoint is of step 4" in error.value.hint


@pytest.mark.parametrize("is_full", [True, False])
def test_a_save_that_fails_names_the_training_checkpoint_and_what_happens(tiny_values, tmp_path, monkeypatch, is_full):
    """The names are on screen, in training.log and in heartbeat.json, which `status` shows."""
    write_tensors, events, problems = checkpoint.write_tensors, [], []
    run_path = tmp_path / "run"

    def fail_at_step_4(path, tensors):
        if "step_4" in path.parent.name and is_full:
            raise DiskFullError(f"disk full while writing {run_path / 'state' / 'step_4'}")
        if "step_4" in path.parent.name:
            raise OSError(5, "Input/output error")
        write_tensors(path, tensors)

    def report(event):
        events.append(event)
        if event["event"] == "warning":
            problems.append(trainer_log[0].writes.problem)

    from tttkit.train import start

    trainer_log, run_log = [], start.RunLog
    monkeypatch.setattr(start, "RunLog", lambda run: trainer_log.append(run_log(run)) or trainer_log[0])
    monkeypatch.setattr(checkpoint, "write_tensors", fail_at_step_4)
    run = train(tiny_values(), run_path, report=report).run
    (message,) = [event["message"] for event in events if event["event"] == "warning"]
    why = f"disk full while writing {run_path / 'state' / 'step_4'}" if is_full else "[Errno 5] Input/output error"
    assert message == (
        f"training checkpoint of step 4 not saved: {why}; training continues and tries again; free disk space in the "
        f"meantime"
    )
    assert problems == [f"training checkpoint of step 4 not saved: {why}"]
    log = run.training_log.read_text()
    assert message in log
    assert "disk space is available again: training checkpoint of step 8 saved" in log
    assert [step for step, _ in training_checkpoints(run)] == [12, 8]


def test_a_first_checkpoint_that_cannot_be_saved_ends_the_run(tiny_values, tmp_path, monkeypatch):
    def fail(path, tensors):
        raise DiskFullError("disk full")

    monkeypatch.setattr(checkpoint, "write_tensors", fail)
    with pytest.raises(DiskFullError):
        train(tiny_values(), tmp_path / "run")
    result = files.read_json(tmp_path / "run" / "metadata.json")["result"]
    assert result == {"reason": "disk-full", "step": 0, "tokens_seen": 0, "saved_step": None}
