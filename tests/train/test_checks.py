from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import tttkit
from tests.cli.test_train import PLAN
from tests.training import train
from tttkit.config.run import build_config
from tttkit.errors import DiskFullError, UsageError
from tttkit.run.directory import RunDirectory
from tttkit.storage import files
from tttkit.train.checks import check_disk
from tttkit.train.options import RunOptions
from tttkit.train.resume.changes import refuse_old_version, refuse_other_config

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run_0_1_0"


@pytest.fixture
def old_run(tmp_path) -> RunDirectory:
    """A copy of the run that version 0.1.0 made."""
    return RunDirectory(shutil.copytree(GOLDEN, tmp_path / "old"))


def unfinish(run: RunDirectory) -> None:
    """Make the run look as if SIGTERM had stopped it at step 30."""
    metadata = run.read_metadata()
    metadata["segments"][-1] |= {"reason": "preempted", "end_step": 30}
    metadata["config"]["data"]["path"] = "no-such-folder"  # if the run is not refused, it still ends soon
    files.write_json(run.metadata, {**metadata, "result": {"reason": "preempted", "step": 30}})


@pytest.mark.parametrize("command", [["resume"], ["train", "--out"]])
def test_an_unfinished_run_of_an_older_version_is_refused_with_advice(old_run, command):
    unfinish(old_run)
    before = {path: path.read_bytes() for path in old_run.path.rglob("*") if path.is_file()}
    result = tttkit(*command, old_run.path)
    assert result.code == 2
    assert f"error: {old_run.path} is an unfinished run of tttkit 0.1.0, which this version cannot resume" in result.err
    assert "hint: finish it with tttkit 0.1.0, or start over with another --out" in result.err
    after = {path: path.read_bytes() for path in old_run.path.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert after == before


def test_a_finished_run_of_an_older_version_has_ended_already(tiny_values, tmp_path):
    """Its metadata has the schema, and its configuration the keys, of version 0.1.0."""
    values = tiny_values(train={"max_steps": 2}, evaluation={"num_checkpoints": 0})
    run = train(values, tmp_path / "run").run
    metadata = run.read_metadata()
    section = metadata["config"]["train"]
    section |= {"carry": "none"}
    for name in ("from", "decay", "reset"):
        section[f"carry_{name}"] = section.pop(f"initial_state_{name}")
    section["carry_fresh_share"] = section.pop("initial_state_zero_share")
    del section["initial_state"]
    files.write_json(run.metadata, {**metadata, "schema_version": 1})
    assert train(values, run.path).already_ended
    with pytest.raises(UsageError, match=r"train\.initial_state: zero -> contiguous"):
        train({**values, "train": {**values["train"], "initial_state": "contiguous"}}, run.path)


def test_only_an_older_schema_is_refused(old_run):
    metadata = old_run.read_metadata()
    with pytest.raises(UsageError, match=r"tttkit 0\.1\.0"):
        refuse_old_version(metadata, old_run)
    refuse_old_version({**metadata, "schema_version": 2}, old_run)


def test_keys_that_change_no_bit_may_differ(tiny_values, tmp_path):
    config = build_config(tiny_values())
    old = json.loads(json.dumps({"data": {}, "config": config.to_dict()}))
    free = {"save_every": 7, "log_every": 3, "inner_loss_every": 2, "keep_weights": True, "num_threads": 2}
    run = RunDirectory(tmp_path)
    assert refuse_other_config(old, build_config(tiny_values(train=free)), run, RunOptions()) == []
    with pytest.raises(UsageError, match=r"train\.seed: 42 -> 1; world_size: 2 -> 1"):
        refuse_other_config({**old, "world_size": 2}, build_config(tiny_values(train={"seed": 1})), run, RunOptions())
    options = RunOptions(allow_change=frozenset({"train.seed"}))
    assert refuse_other_config(old, build_config(tiny_values(train={"seed": 1})), run, options) == [
        "train.seed: 42 -> 1"
    ]


def test_the_disk_is_compared_with_what_the_run_needs(tmp_path):
    run = RunDirectory(tmp_path)
    assert check_disk(run, PLAN) is None
    assert "the run will need 48.0 MB, but only 20.0 MB is free" in check_disk(
        run, dataclasses.replace(PLAN, free_bytes=20_000_000)
    )
    small = dataclasses.replace(PLAN, free_bytes=15_000_000)
    with pytest.raises(
        DiskFullError, match=r"15\.0 MB free, but the first training checkpoint and model take 16\.0 MB"
    ):
        check_disk(run, small)
    run.states.mkdir()
    (run.states / "file").write_bytes(bytes(1000))
    assert "training continues in memory" in check_disk(run, small), "a resumed run has its training checkpoints"
