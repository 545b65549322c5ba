"""C1 to C3: a disk that fills up or fails costs time, never the last good state."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults import trials
from tests.faults.conftest import assert_equal_runs, run_trial
from tests.faults.disks import CALLS, KilledAt, failing_at
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
    """Mounts a tmpfs of a given size; gone afterwards, whoever still has a file open on it.

    It lies outside of pytest's own directories, whose removal a mount that an interrupted session left would break.
    """
    place = Path(tempfile.mkdtemp(prefix="tttkit-disk-"))

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not permitted here")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True)
    place.rmdir()


def fill_disk(values, reference, place, size, tmp_path) -> int:
    """Train on a disk of `size` bytes, then on the same with room; returns the first exit code."""
    run = RunDirectory(place / "run")
    code = run_trial(trials.train, values, str(run.path), log=str(tmp_path / "log"))
    assert code in (0, 6), (tmp_path / "log").read_text()[-2000:]
    for step, path in training_checkpoints(run):
        checkpoint.verify_checkpoint(path, step)
    for path in (run.best_model, run.final_model):
        if path.exists():
            commits.verify_directory(path)
    subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
    assert run_trial(trials.train, values, str(run.path), log=str(tmp_path / "log")) == 0
    assert_equal_runs(run, reference)
    shutil.rmtree(run.path)
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)
    return code


@pytest.mark.parametrize("size", [300_000, 700_000])
def test_c1_full_disk(values, reference, small_disk, tmp_path, size):
    fill_disk(values, reference, small_disk(size), size, tmp_path)


@pytest.mark.faults
def test_c1_24_sizes(values, reference, small_disk, tmp_path):
    place, codes = small_disk(100_000), set()
    for index in range(24):
        size = 100_000 + index * 100_000
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)
        codes.add(fill_disk(values, reference, place, size, tmp_path))
    assert codes == {0, 6}, "some are too small and some large enough"


def test_c1_training_waits_for_room_and_status_says_so(tiny_values, reference_of, small_disk, tmp_path):
    """Another file takes the disk while the run trains, and goes away again: nothing is missing at the end."""
    values = tiny_values(train={"save_every": 1, "max_steps": 100}, evaluation={"num_checkpoints": 4})
    run = RunDirectory(small_disk(3_000_000) / "run")
    ballast = run.path.parent / "ballast"
    process = trials.context.Process(
        target=trials.train, args=(values, str(run.path)), kwargs={"log": str(tmp_path / "log")}
    )
    process.start()
    seen = set()
    try:
        while process.is_alive():
            if not ballast.exists() and "disk-full" not in seen and len(run.read_metrics()) >= 10:
                _fill(ballast)
            if run.metadata.exists():
                seen.add(read_status(run).state)
            if "disk-full" in seen:
                ballast.unlink(missing_ok=True)
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == 0, (tmp_path / "log").read_text()[-2000:]
    assert "disk-full" in seen
    assert_equal_runs(run, reference_of(values))


def _fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 10_000)


class _Limited:
    """A real file system in a process whose files may not grow beyond a size: the system says EFBIG, not ENOSPC."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))
        return filesystem.FileSystem()


@pytest.mark.parametrize(
    "size",
    [1_000, 20_000, 60_000, *(pytest.param(size, marks=pytest.mark.faults) for size in range(2_000, 70_000, 9_000))],
)
def test_c2_file_size_limit(values, tmp_path, size):
    run = RunDirectory(tmp_path / "run")
    assert run_trial(trials.train, values, str(run.path), disk=_Limited(size), log=str(tmp_path / "log")) == 6
    assert "disk full while writing" in (tmp_path / "log").read_text()
    for step, path in training_checkpoints(run):
        checkpoint.verify_checkpoint(path, step)


def test_c2_log_that_cannot_be_written(values, reference, tmp_path):
    """training.log is for people; a run does not end for it."""
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


def test_c2_a_log_that_is_a_full_device(values, reference, tmp_path):
    """The kernel's own error, of a file that cannot be cut either."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    assert run_trial(trials.train, values, str(run.path), disk=KilledAt(60)) == -signal.SIGKILL
    run.training_log.unlink(missing_ok=True)
    run.training_log.symlink_to("/dev/full")
    assert run_trial(trials.train, values, str(run.path), log=str(tmp_path / "log")) == 0
    assert_equal_runs(run, reference)


def session(root, done: list[str]) -> None:
    """What a run writes in two steps, as the trainer does it; `done` gets what was reported as done."""
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
    """A session on a failing disk: no success that is none, the last good state stays, and it goes on afterwards."""
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
        assert line.startswith("{"), "half a line"
        assert line.endswith("}"), "half a line"
    done = []
    session(root, done)
    assert done[-1] == "model"
    shutil.rmtree(root)


def test_c3_failing_calls(tmp_path, monkeypatch):
    generator = random.Random(0)
    for _ in range(40):
        disk = failing_at(generator.randrange(1, 90), generator.choice(ERRORS), persistent=generator.random() < 0.5)
        fail_session(tmp_path / "root", disk, monkeypatch)


@pytest.mark.faults
def test_c3_250_failing_calls(tmp_path, monkeypatch):
    count = 0
    for call in CALLS:
        for error in ERRORS:
            for number in (1, 2, 4, 7, 11):
                disk = failing_at(number, error, persistent=count % 2 == 0, only=call)
                fail_session(tmp_path / "root", disk, monkeypatch)
                count += 1
    assert count >= 250


class _Half(filesystem.FileSystem):
    """The first write fits by half, as on a disk that fills up in the middle; then there is no room."""

    def __init__(self) -> None:
        self.has_room = True

    def write(self, descriptor, data):
        if not self.has_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.has_room = False
        return super().write(descriptor, bytes(data)[: len(data) // 2])


def test_c3_half_a_line_is_taken_back(tmp_path, monkeypatch):
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


def test_retention_never_comes_before_the_commit(tmp_path, monkeypatch):
    """On a disk that fills up in the save, both earlier states stay."""
    run, (model, optimizer) = RunDirectory(tmp_path), trials.small_model()
    for step in (1, 2):
        checkpoint.save_checkpoint(run, step, model, optimizer, {})
    for number in range(1, 12):
        monkeypatch.setattr(filesystem, "current", failing_at(number, errno.ENOSPC, persistent=False))
        with pytest.raises(OSError, match="disk full"):
            checkpoint.save_checkpoint(run, 3, model, optimizer, {})
        monkeypatch.undo()
        assert [step for step, _ in training_checkpoints(run)] == [2, 1]


def test_waiting_writes_keep_their_order_and_the_newest(tmp_path):
    """A write that waits is replaced by a newer one of its name."""
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
