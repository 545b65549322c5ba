"""Promise: after a power failure, everything that was saved is there, and the old or the new version is complete.

The calls of 40 steps are recorded. For each simulated power failure, every write that was not synced is kept, dropped,
or replaced by garbage, and every name that was not synced is old or new. Mutants without one of the three precautions
must fail. See docs/reliability.md.
"""

from __future__ import annotations

import json
import random
import shutil

import pytest

from tests.faults import trials
from tests.faults.disks import Recorded
from tttkit.errors import DataError
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits, files, filesystem
from tttkit.train.logs.metrics import RunLog
from tttkit.train.resume import checkpoint

NUM_STEPS = 40


def record(root, monkeypatch) -> Recorded:
    """Record the calls of 40 steps: logs, metadata, a training checkpoint every 4 steps, a better model every 8."""
    root.mkdir()
    disk = Recorded(root)
    monkeypatch.setattr(filesystem, "current", disk)
    run, (model, optimizer) = RunDirectory(root / "run"), trials.small_model()
    files.make_directory(run.path)
    log = RunLog(run)
    for step in range(NUM_STEPS + 1):
        log.metrics({"step": step, "loss": 1.0})
        if step % 4 == 0:
            log.sync()
            checkpoint.save_checkpoint(run, step, model, optimizer, {"note": step})
            disk.note(f"state {step}")
        if step % 8 == 0:
            with commits.commit_directory(run.best_model) as directory:
                files.write_new(directory / "model", [bytes([step]) * 100])
            disk.note(f"model {step}")
            files.write_json(run.metadata, {"schema_version": 1, "step": step})
            disk.note(f"metadata {step}")
    monkeypatch.undo()
    return disk


def check(disk: Recorded, root, target, generator) -> None:
    """Simulate one power failure after a random call, and check what must hold afterwards."""
    num_calls = generator.randrange(1, len(disk.calls) + 1)
    promised = {"state": -1, "model": -1, "metadata": -1}
    for kind, *rest in disk.calls[:num_calls]:
        if kind == "note":
            what, step = rest[0].split()
            promised[what] = int(step)
    disk.crash(num_calls, target, generator)
    run = RunDirectory(target / "run")
    newest = _newest_valid_state(run)
    assert newest >= promised["state"], "a training checkpoint that was saved is lost"
    if newest >= 0:
        assert [line["step"] for line in run.read_metrics()][: newest + 1] == list(range(newest + 1)), (
            "lines of the metrics are lost"
        )
    if promised["model"] >= 0 or run.best_model.exists():
        commits.verify_directory(run.best_model)
        assert (run.best_model / "model").read_bytes()[0] >= promised["model"]
    if promised["metadata"] >= 0 or run.metadata.exists():
        assert run.read_metadata()["step"] >= promised["metadata"]


def _newest_valid_state(run: RunDirectory) -> int:
    """Return the step of the newest training checkpoint, which must be valid because it gets its name last."""
    for step, path in training_checkpoints(run):
        checkpoint.verify_checkpoint(path, step)
        assert json.loads((path / "state.json").read_text())["note"] == step
        return step
    return -1


def power_failures(tmp_path, monkeypatch, count: int) -> None:
    disk = record(tmp_path / "real", monkeypatch)
    generator = random.Random(3)
    for _ in range(count):
        check(disk, tmp_path / "real", tmp_path / "after", generator)
        shutil.rmtree(tmp_path / "after")


def test_150_power_failures_lose_nothing_that_was_saved(tmp_path, monkeypatch):
    power_failures(tmp_path, monkeypatch, 150)


@pytest.mark.faults
def test_2000_power_failures_lose_nothing_that_was_saved(tmp_path, monkeypatch):
    power_failures(tmp_path, monkeypatch, 2000)


def _no_sync(monkeypatch):
    monkeypatch.setattr(Recorded, "sync", lambda self, descriptor: None)


def _no_directory_sync(monkeypatch):
    monkeypatch.setattr(Recorded, "sync_directory", lambda self, path: None)


def _rename_before_manifest(monkeypatch):
    seal, swap = commits._seal, commits._swap
    monkeypatch.setattr(commits, "_seal", lambda directory, entries: None)

    def swap_first(temporary, path):
        swap(temporary, path)
        seal(path, {})

    monkeypatch.setattr(commits, "_swap", swap_first)


@pytest.mark.parametrize("mutate", [_no_sync, _no_directory_sync, _rename_before_manifest])
def test_power_failures_catch_mutants(tmp_path, mutate):
    """Without any one of its three precautions, a commit fails the test above."""
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.MonkeyPatch.context() as mutation:
        mutate(mutation)
        with pytest.raises((AssertionError, DataError, FileNotFoundError)):
            power_failures(tmp_path, monkeypatch, 400)
