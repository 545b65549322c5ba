"""Fixtures of the fault tests: a folder in memory, and an uninterrupted run to compare with."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import trials
from tttkit.run.directory import RunDirectory

LONGEST = 200
"""Seconds that a trial may take on a busy machine; usually it takes less than one."""
_MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path_factory) -> Iterator[Path]:
    """A folder in memory, where thousands of syncs cost nothing; a killed process leaves the same files there.

    Simulated power failures prove the effect of a sync. `disk_path` is on a disk.
    """
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path_factory.mktemp("memory")
        return
    path = Path(tempfile.mkdtemp(prefix="tttkit-faults-", dir=_MEMORY))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def disk_path(tmp_path_factory) -> Path:
    """A folder on a disk, for tests that need one."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture
def values(tiny_values):
    """Configuration of the run that is interrupted: a training checkpoint after every step, four evaluations."""
    return tiny_values(train={"save_every": 1})


@pytest.fixture(scope="session")
def reference_of(tmp_path_factory):
    """Return the run of a configuration that was trained to its end once per session."""
    known: dict[str, RunDirectory] = {}

    def get(values) -> RunDirectory:
        key = json.dumps(values, sort_keys=True)
        if key not in known:
            path = tmp_path_factory.mktemp("reference") / "run"
            assert run_trial(trials.train, values, str(path), log=f"{path}.log") == 0
            known[key] = RunDirectory(path)
        return known[key]

    return get


@pytest.fixture
def reference(reference_of, values) -> RunDirectory:
    return reference_of(values)


def run_trial(target, *arguments, **options) -> int:
    """Run a function of `trials` in a forked process, and return its exit code, negative for a signal."""
    process = trials.context.Process(target=target, args=arguments, kwargs=options)
    process.start()
    process.join(LONGEST)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("the trial hangs")
    return process.exitcode


def assert_equal_runs(run: RunDirectory, reference: RunDirectory) -> None:
    """Compare the bits of losses, last training checkpoint, models, and results; check that nothing is left over."""
    losses = [[(record["step"], record["loss"].hex()) for record in r.read_metrics()] for r in (run, reference)]
    assert losses[0] == losses[1]
    last = max(int(entry.name[5:]) for entry in reference.states.iterdir())
    for name in (
        "best_model/model.safetensors",
        "final_model/model.safetensors",
        f"state/step_{last}/tensors.safetensors",
    ):
        assert (run.path / name).read_bytes() == (reference.path / name).read_bytes(), name
    states = [json.loads((r.states / f"step_{last}" / "state.json").read_text()) for r in (run, reference)]
    assert {**states[0], "run_id": ""} == {**states[1], "run_id": ""}
    for left, right in zip(run.read_summaries(), reference.read_summaries(), strict=True):
        assert left.with_values(eval_seconds=0) == right.with_values(eval_seconds=0)
    assert_no_leftovers(run.path)


def assert_no_leftovers(path: Path) -> None:
    assert list(path.rglob(".tmp-*")) == []
