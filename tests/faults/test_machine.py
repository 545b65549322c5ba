"""Promise: a run says when equal bits cannot be promised, reads older files and refuses newer ones, and turns missing
permissions, packages, and memory into one-line errors; long runs leak nothing.

See docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, run_process, train_options
from tests.faults import trials
from tests.faults.conftest import assert_equal_runs, run_trial
from tests.training import train
from tttkit.errors import CheckpointError, DeviceMemoryError
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits, files
from tttkit.train import update
from tttkit.train.resume import checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.mark.faults
@pytest.mark.parametrize("num_threads", [1, 2])
def test_two_fresh_interpreters_give_the_same_bits(tiny_data, tmp_path, num_threads):
    for name in ("a", "b"):
        options = train_options(tiny_data, tmp_path / name, f"--set=train.num_threads={num_threads}")
        assert run_process(*options).code == 0
    assert_equal_runs(RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b"))


def test_another_number_of_threads_is_reported(tiny_values, tmp_path):
    values = tiny_values(train={"max_steps": 4})
    train(values, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    metadata = run.read_metadata()
    del metadata["result"]
    files.write_json(run.metadata, metadata)
    events = []
    train(tiny_values(train={"max_steps": 4, "num_threads": 2}), run.path, report=events.append)
    trials.torch.set_num_threads(1)
    messages = [event["message"] for event in events if event["event"] == "warning"]
    assert messages == ["environment changed, so results may not be bit-identical: num_threads: 1 -> 2"]


def test_a_checkpoint_of_this_version_loads_and_one_of_a_newer_is_refused(tmp_path):
    run = RunDirectory(tmp_path)
    run.states.mkdir()
    shutil.copytree(GOLDEN / "state_1", run.states / "step_2")
    model, optimizer = trials.small_model()
    state = checkpoint.load_newest_checkpoint(run)
    checkpoint.restore_checkpoint(state, model, optimizer)
    assert state.values["note"] == 2
    newer = checkpoint.SCHEMA_VERSION + 1
    with commits.commit_directory(run.states / "step_3") as directory:
        files.write_json(directory / "state.json", {"schema_version": newer, "step": 3})
    state = checkpoint.load_newest_checkpoint(run)
    assert state.step == 2
    assert f"schema version {newer}, this tttkit reads up to {newer - 1}" in state.skipped[0]


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    run, (model, optimizer) = RunDirectory(tmp_path), trials.small_model()
    checkpoint.save_checkpoint(run, 1, model, optimizer, {})
    other = trials.torch.nn.Linear(4, 4)
    with pytest.raises(CheckpointError, match="does not have the model's parameters"):
        checkpoint.restore_checkpoint(
            checkpoint.load_newest_checkpoint(run), other, trials.torch.optim.AdamW(other.parameters())
        )


@pytest.mark.faults
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can become an ordinary user"
)
@pytest.mark.parametrize("command", ["train", "resume", "data", "eval", "plot", "convert"])
def test_a_directory_without_write_permission_is_an_error(tiny_data, reference, command):
    """The command runs as an ordinary user, because root passes every check of permissions."""
    closed = Path("/tmp") / f"tttkit-closed-{os.getpid()}"
    closed.mkdir(mode=0o755)
    try:
        (closed / "text.txt").write_text("some words " * 100)
        data, run = shutil.copytree(tiny_data, closed / "tiny"), shutil.copytree(reference.path, closed / "run")
        arguments = {
            "train": ["train", "--out", closed / "new", "--max-steps", 2],
            "resume": ["resume", run],
            "data": ["data", "prepare", closed / "text.txt", "--tokenizer", "bpe:280", "--out", closed / "data"],
            "eval": ["eval", "checkpoint", run / "best_model", "--data", data, "--out", closed / "out"],
            "plot": ["plot", run],
            "convert": ["convert", run / "best_model", closed / "converted", "--to", "official"],
        }[command]
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(closed / "no-home")}
        done = subprocess.run(
            [*user, *COMMAND, *(str(argument) for argument in arguments)], env=environment, capture_output=True,
            text=True, timeout=60, cwd="/",
        )  # fmt: skip
        if "ModuleNotFoundError" in done.stderr or "Permission denied: '/root" in done.stderr:
            pytest.skip("an ordinary user cannot read this checkout")
        assert (done.returncode, "ermission denied" in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
    finally:
        shutil.rmtree(closed)


@pytest.mark.parametrize(
    "package", ["torch", "matplotlib", "tttkit._rust", *(pytest.param(name, marks=pytest.mark.faults) for name in (
        "numpy", "safetensors", "pydantic"))]
)  # fmt: skip
def test_a_missing_package_is_a_one_line_error(tiny_data, tmp_path, finished_run, package):
    block = f"import sys; sys.modules[{package!r}] = None; from tttkit_cli.app import main; main()"
    arguments = ["plot", str(finished_run)] if package == "matplotlib" else ["train", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", block, *arguments], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: cannot load" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def finished_run(reference):
    return reference.path


class _LittleMemory:
    """Limit the address space to `more` bytes beyond the current use of the process."""

    def __init__(self, more: int) -> None:
        self.more = more

    def __call__(self):
        from tttkit.storage.filesystem import FileSystem

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + self.more, resource.RLIM_INFINITY))
        return FileSystem()


def test_out_of_memory_errors_name_remedies(tiny_values, tmp_path):
    values = tiny_values(train={"batch_size": 20_000}, evaluation={"num_checkpoints": 0})
    log = tmp_path / "log"
    code = run_trial(trials.train, values, str(tmp_path / "run"), disk=_LittleMemory(256 << 20), log=str(log))
    assert code == 7, log.read_text()[-2000:]
    assert "out of memory on cpu in step 1, with 20000 windows of W=16 at once" in log.read_text()


class _InGroup:
    """Enter a control group, whose memory limit counts everything allocated from then on."""

    def __init__(self, group: Path) -> None:
        self.group = group

    def __call__(self):
        from tttkit.storage.filesystem import FileSystem

        (self.group / "cgroup.procs").write_text(str(os.getpid()))
        return FileSystem()


@pytest.fixture
def memory_group():
    """A control group of version 1 or 2 with 100 MB of memory, removed afterwards."""
    for root, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group = Path(root) / f"tttkit-test-{os.getpid()}"
        try:
            group.mkdir()
            with (group / limit).open("r+") as file:
                file.write(str(100 << 20))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("this user may not create control groups")


@pytest.mark.faults
def test_an_oom_kill_is_told_from_other_kills(tiny_values, tmp_path, memory_group):
    values = tiny_values(train={"batch_size": 20_000}, evaluation={"num_checkpoints": 0})
    run, log = RunDirectory(tmp_path / "run"), tmp_path / "log"
    code = run_trial(trials.train, values, str(run.path), disk=_InGroup(memory_group), log=str(log))
    assert code == -signal.SIGKILL, log.read_text()[-2000:]
    assert read_status(run).state == "crashed"
    assert "probably OOM-killed" in read_status(run).reason


def test_halved_micro_batches_give_the_same_update(tiny_values, tmp_path, monkeypatch):
    whole = train(tiny_values(), tmp_path / "whole").run
    backward = update.Updater._backward

    def limited(updater, batch, share):
        if len(batch) > 1:
            raise MemoryError
        return backward(updater, batch, share)

    monkeypatch.setattr(update.Updater, "_backward", limited)
    with pytest.raises(DeviceMemoryError) as error:
        train(tiny_values(), tmp_path / "refused")
    assert error.value.exit_code == 7
    for option in ("--batch-size 2 --grad-accumulation 2", "--precision bf16", "--auto-microbatch"):
        assert option in error.value.hint
    events = []
    run = train(tiny_values(), tmp_path / "halved", report=events.append, auto_microbatch=True).run
    for left, right in zip(whole.read_metrics(), run.read_metrics(), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
        assert left["tokens_seen"] == right["tokens_seen"]
    assert "continuing with 1 at once" in next(event["message"] for event in events if event["event"] == "warning")
    state = json.loads((run.states / "step_12" / "state.json").read_text())
    assert state["progress"]["micro_batch"] == 1


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_20000_steps_leak_neither_files_nor_memory(tiny_values, tmp_path):
    """After 20,000 steps and 50 training checkpoints, as many files are open as before, and memory has not grown."""
    train_values = {"max_steps": 20_000, "save_every": 400, "batch_size": 1, "log_every": 10}
    values = tiny_values(train=train_values, evaluation={"num_checkpoints": 0})
    seen = []

    def look(event):
        if event["event"] == "saved":
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
            seen.append((len(os.listdir("/proc/self/fd")), resident))

    train(values, tmp_path / "run", report=look)
    descriptors = {count for count, _ in seen[5:]}
    assert len(descriptors) == 1
    half = len(seen) // 2
    growth = (seen[-1][1] - seen[half][1]) / (400 * (len(seen) - half))
    assert growth < 1024, f"{growth:.0f} bytes per step"
