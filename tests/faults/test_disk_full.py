"""Promise: a disk that fills up or fails costs time, but never the last valid training checkpoint.

Runs train on small disks, under file size limits, and on a file system whose n-th call fails. See docs/reliability.md.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import threading
import time
from contextlib import suppress

import pytest

from tests.faults import trials
from tests.faults.conftest import assert_equal_runs, run_trial
from tests.faults.disks import CALLS, KilledAt, failing_at
from tests.faults.small_disks import KINDS, SmallDisk, UnavailableError, make_disk
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits, files, filesystem
from tttkit.train.logs.metrics import RunLog
from tttkit.train.logs.pending_writes import PendingWrites
from tttkit.train.resume import checkpoint

ERRORS = [errno.EIO, errno.EDQUOT, errno.EROFS, errno.EINTR, errno.ENOSPC]


@pytest.fixture
def small_disk():
    """Return a function that makes a disk of a size, of a kind or the best available one; remove all at the end."""
    disks: list[SmallDisk] = []

    def make(size: int, kind: str | None = None) -> SmallDisk:
        try:
            disks.append(make_disk(size) if kind is None else KINDS[kind](size))
        except UnavailableError as error:
            pytest.skip(str(error))
        return disks[-1]

    yield make
    for disk in disks:
        disk.remove()


def fill_disk(values, reference, disk, size, tmp_path) -> int:
    """Train on a disk of `size` bytes, then on the same disk with more space; return the first exit code."""
    run, log = RunDirectory(disk.path / "run"), tmp_path / "log"
    log.write_text("")
    code = run_trial(trials.train, values, str(run.path), log=str(log), **disk.trial_options())
    assert code in (0, 6), log.read_text()[-2000:]
    assert_named_by_final_paths(log.read_text())
    if run.metadata.exists():
        assert_named_by_final_paths(read_status(run).reason)
    for step, path in training_checkpoints(run):
        checkpoint.verify_checkpoint(path, step)
    for path in (run.best_model, run.final_model):
        if path.exists():
            commits.verify_directory(path)
    disk.resize(100 << 20)
    assert run_trial(trials.train, values, str(run.path), log=str(log), **disk.trial_options()) == 0
    assert_equal_runs(run, reference)
    shutil.rmtree(run.path)
    disk.resize(size)
    return code


def assert_named_by_final_paths(text: str) -> None:
    """Check that messages name files by the names that a user knows, not by temporary ones."""
    assert ".tmp-" not in text, text[-2000:]


@pytest.mark.parametrize("size", [300_000, 700_000])
@pytest.mark.parametrize("kind", KINDS)
def test_2_small_disks(values, reference, small_disk, tmp_path, kind, size):
    """On every kind of small disk, the run ends with code 0 or 6 and finishes once there is space."""
    fill_disk(values, reference, small_disk(size, kind), size, tmp_path)


@pytest.mark.faults
def test_24_sizes_of_disk(values, reference, small_disk, tmp_path):
    disk, codes = small_disk(100_000), set()
    for index in range(24):
        size = 100_000 + index * 100_000
        disk.resize(size)
        codes.add(fill_disk(values, reference, disk, size, tmp_path))
    assert codes == {0, 6}, "some disks are too small and some large enough"


def test_training_waits_for_space_and_status_says_so(tiny_values, reference_of, small_disk, tmp_path):
    """Another file fills the disk while the run trains, and is removed again: nothing is missing at the end."""
    values = tiny_values(train={"save_every": 1, "max_steps": 100}, evaluation={"num_checkpoints": 4})
    disk = small_disk(3_000_000)
    run = RunDirectory(disk.path / "run")
    ballast = run.path.parent / "ballast"
    options = {"log": str(tmp_path / "log"), **disk.trial_options()}
    process = trials.context.Process(target=trials.train, args=(values, str(run.path)), kwargs=options)
    process.start()
    seen = set()
    try:
        while process.is_alive():
            if not ballast.exists() and "disk-full" not in seen and len(run.read_metrics()) >= 10:
                disk.fill(ballast)
            if run.metadata.exists():
                status = read_status(run)
                seen.add(status.state)
                assert_named_by_final_paths(status.reason)
            if "disk-full" in seen:
                ballast.unlink(missing_ok=True)
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == 0, (tmp_path / "log").read_text()[-2000:]
    assert "disk-full" in seen
    assert_named_by_final_paths((tmp_path / "log").read_text())
    assert_equal_runs(run, reference_of(values))


class _Limited:
    """The real file system with a limit on the size of files: the system reports EFBIG, not ENOSPC."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))
        return filesystem.FileSystem()


@pytest.mark.parametrize(
    "size",
    [1_000, 20_000, 60_000, *(pytest.param(size, marks=pytest.mark.faults) for size in range(2_000, 70_000, 9_000))],
)
def test_a_file_size_limit_is_a_full_disk(values, tmp_path, size):
    run = RunDirectory(tmp_path / "run")
    assert run_trial(trials.train, values, str(run.path), disk=_Limited(size), log=str(tmp_path / "log")) == 6
    assert "disk full while writing" in (tmp_path / "log").read_text()
    assert_named_by_final_paths((tmp_path / "log").read_text())
    for step, path in training_checkpoints(run):
        checkpoint.verify_checkpoint(path, step)


def test_a_log_that_cannot_be_written_does_not_end_the_run(values, reference, tmp_path):
    """training.log is only for people."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    (run.path / "data").mkdir()
    assert run_trial(trials.train, values, str(run.path), disk=_FullLog()) == 0
    assert not run.training_log.exists()
    assert_equal_runs(run, reference)


class _FullLog:
    def __call__(self):
        class Disk(filesystem.FileSystem):
            def open_append(self, path):
                if path.name == "training.log":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return super().open_append(path)

        return Disk()


def test_a_log_on_a_full_device_does_not_end_the_run(values, reference, tmp_path):
    """/dev/full gives the real error of the kernel and cannot be truncated."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    assert run_trial(trials.train, values, str(run.path), disk=KilledAt(60)) == -signal.SIGKILL
    run.training_log.unlink(missing_ok=True)
    run.training_log.symlink_to("/dev/full")
    assert run_trial(trials.train, values, str(run.path), log=str(tmp_path / "log")) == 0
    assert_equal_runs(run, reference)


def session(root, done: list[str]) -> None:
    """Write the files of two steps as the trainer does; `done` receives the name of every write reported as done."""
    run, (model, optimizer) = RunDirectory(root / "run"), trials.small_model()
    files.make_directory(run.path)
    log = RunLog(run)
    for step in (1, 2):
        log.metrics({"step": step, "loss": 1.0})
        log.write("a line")
        log.heartbeat("training", step)
        if log.writes.attempt("metadata", lambda step=step: files.write_json(run.metadata, {"step": step})):
            done.append(f"metadata {step}")
        if log.writes.retry() and log.sync():
            checkpoint.save_checkpoint(run, step, model, optimizer, {"note": step})
            done.append(f"state {step}")
    with commits.commit_directory(run.best_model) as directory:
        files.write_new(directory / "model", [b"weights"])
    done.append("model")


def fail_session(root, disk, monkeypatch) -> None:
    """Run a session on a failing disk: every write reported as done is on disk, and the next session succeeds."""
    done: list[str] = []
    monkeypatch.setattr(filesystem, "current", disk)
    with suppress(OSError):
        session(root, done)
    monkeypatch.undo()
    run = RunDirectory(root / "run")
    valid = [step for step, path in training_checkpoints(run) if checkpoint.verify_checkpoint(path, step)]
    reported = {
        name: [int(item.split()[1]) for item in done if item.startswith(name)] for name in ("state", "metadata")
    }
    assert max(valid, default=0) >= max(reported["state"], default=0)
    assert [line["step"] for line in run.read_metrics()][: max(valid, default=0)] == list(
        range(1, max(valid, default=0) + 1)
    )
    if reported["metadata"]:
        assert run.read_metadata()["step"] >= max(reported["metadata"])
    if "model" in done:
        assert (run.best_model / "model").read_bytes() == b"weights"
    if run.best_model.exists():
        commits.verify_directory(run.best_model)
    for line in run.metrics.read_text().splitlines() if run.metrics.exists() else ():
        assert line.startswith("{"), "an incomplete line"
        assert line.endswith("}"), "an incomplete line"
    done = []
    session(root, done)
    assert done[-1] == "model"
    shutil.rmtree(root)


def test_40_failing_calls(tmp_path, monkeypatch):
    generator = random.Random(0)
    for _ in range(40):
        disk = failing_at(generator.randrange(1, 90), generator.choice(ERRORS), persistent=generator.random() < 0.5)
        fail_session(tmp_path / "root", disk, monkeypatch)


@pytest.mark.faults
def test_250_failing_calls(tmp_path, monkeypatch):
    count = 0
    for call in CALLS:
        for error in ERRORS:
            for number in (1, 2, 4, 7, 11):
                disk = failing_at(number, error, persistent=count % 2 == 0, only=call)
                fail_session(tmp_path / "root", disk, monkeypatch)
                count += 1
    assert count >= 250


class _Half(filesystem.FileSystem):
    """Half of the first write fits, as on a disk that is filling up; then no space is left."""

    def __init__(self) -> None:
        self.has_space = True

    def write(self, descriptor, data):
        if not self.has_space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.has_space = False
        return super().write(descriptor, bytes(data)[: len(data) // 2])


def test_an_incomplete_line_is_removed(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    log = RunLog(run)
    log.metrics({"step": 1, "loss": 1.0})
    before = run.metrics.read_bytes()
    monkeypatch.setattr(filesystem, "current", _Half())
    log.metrics({"step": 2, "loss": 1.0})
    assert run.metrics.read_bytes() == before
    assert "disk full" in log.writes.problem
    monkeypatch.undo()
    log.metrics({"step": 3, "loss": 1.0})
    assert [line["step"] for line in map(json.loads, run.metrics.read_text().splitlines())] == [1, 2, 3]


def test_old_checkpoints_are_removed_only_after_the_commit(tmp_path, monkeypatch):
    """On a disk that fills up during a save, both earlier checkpoints stay."""
    run, (model, optimizer) = RunDirectory(tmp_path), trials.small_model()
    for step in (1, 2):
        checkpoint.save_checkpoint(run, step, model, optimizer, {})
    for number in range(1, 12):
        monkeypatch.setattr(filesystem, "current", failing_at(number, errno.ENOSPC, persistent=False))
        with pytest.raises(OSError, match="disk full"):
            checkpoint.save_checkpoint(run, 3, model, optimizer, {})
        monkeypatch.undo()
        assert [step for step, _ in training_checkpoints(run)] == [2, 1]


def test_a_waiting_write_is_replaced_by_a_newer_one_of_its_name(tmp_path):
    """If two writes of the same name wait, only the newer one is written."""
    writes, written, room = PendingWrites(), [], threading.Event()

    def write(value):
        if not room.is_set():
            raise OSError(errno.ENOSPC, "full")
        written.append(value)

    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        assert not writes.attempt(name, lambda value=value: write(value))
    assert not writes.retry()
    assert "full" in writes.problem
    room.set()
    assert writes.retry()
    assert sorted(written) == [2, 3]
    assert writes.problem is None
