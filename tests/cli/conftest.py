"""Run the command line in this process or in a separate one, and share one small trained run between all tests."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tttkit_cli.app import _run

COMMAND = [sys.executable, "-c", "from tttkit_cli.app import main; main()"]
SMALL = [
    "--set=model.hidden_size=16", "--set=model.intermediate_size=32", "--set=model.num_hidden_layers=1",
    "--set=model.num_attention_heads=2", "--set=model.mini_batch_size=8", "--set=train.num_threads=1",
    "--set=train.log_every=1",
    "--set=train.inner_loss_every=2", "--set=evaluation.selection_windows=16", "--set=evaluation.num_resamples=200",
    "--set=evaluation.chunk_size=8", "--set=evaluation.chunk_stride=8",
    "--window=16", "--batch-size=4", "--save-every=3", "--eval-max-length=320", "--eval-num-sequences=4",
    "--device=cpu",
]  # fmt: skip
"""Options that make a run take a second."""


@dataclasses.dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error with its hint, after checking that there is one error, at most one hint, and no traceback."""
        lines = [line for line in self.err.splitlines() if not line.startswith("run ")]
        assert lines[0].startswith("error: "), self.err
        assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), self.err
        return " ".join(lines)


def tttkit(*arguments: object) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = _run([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


@contextmanager
def start(*arguments: object, **options) -> Iterator[subprocess.Popen]:
    """Start a command as a separate process; kill it and close its pipes afterwards, even if the test fails."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it, and so do their children
    options["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **options.get("env", {})}
    with subprocess.Popen([*COMMAND, *(str(argument) for argument in arguments)], **options) as process:
        try:
            yield process
        finally:
            process.kill()


def run_process(*arguments: object, **options) -> Result:
    """Run a command to its end in a separate process."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=280)
    return Result(process.returncode, out or "", err or "")


def wait_until(condition, process: subprocess.Popen, seconds: float = 150) -> None:
    """Wait for something that a running process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def train_options(data: Path, run: Path, *more: object) -> list[object]:
    return ["train", "--data", data, "--out", run, "--max-steps", 6, "--num-eval-checkpoints", 3, *SMALL, *more]


@pytest.fixture(scope="session")
def trained(tiny_data, tmp_path_factory) -> tuple[Path, Result]:
    """A finished run of six steps, three evaluations, all weights kept, and what its command printed."""
    run = tmp_path_factory.mktemp("cli") / "runs" / "small"
    result = tttkit(*train_options(tiny_data, run, "--keep-weights"))
    assert result.code == 0, result.err
    return run, result


@pytest.fixture
def finished(trained) -> Path:
    """The finished run, which tests must not change."""
    return trained[0]
