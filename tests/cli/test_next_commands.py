"""Suggested commands can be copied into a shell, whatever the name of the run."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest

from tests.cli.conftest import tttkit
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit_cli.views.train_screens import last_screen

NAME = "my run; 'it' [bold]"


@pytest.fixture
def run(finished, tmp_path):
    return RunDirectory(shutil.copytree(finished, tmp_path / NAME))


@pytest.mark.parametrize(
    ("reason", "command"),
    [("finished", "plot"), ("crashed", "resume"), ("nan-stopped", "train"), ("preempted", "resume")],
)
def test_status_suggests_a_command_for_a_shell(run, reason, command):
    metadata = json.loads(run.metadata.read_text())
    metadata |= {"command": [], "result": {**metadata["result"], "reason": reason}}
    run.metadata.write_text(json.dumps(metadata))
    (suggested,) = tttkit("status", run.path).err.splitlines()
    words = shlex.split(suggested.removeprefix("next: "))
    assert words[:2] == ["tttkit", command]
    assert any(word.startswith(str(run.path)) for word in words)


def test_a_run_in_use_and_one_without_an_evaluation(run, tmp_path):
    run.heartbeat.unlink()  # it belongs to this process, which may have been silent for long on a slow machine
    with exclusive(run):
        assert shlex.split(tttkit("status", run.path).err)[1:4] == ["tttkit", "status", str(run.path)]
        locked = tttkit("train", "--data", run.path / "nowhere", "--out", run.path)
    assert shlex.quote(str(run.path)) in locked.error
    for index in range(3):
        shutil.rmtree(run.checkpoint(index))
    run.summaries.unlink()
    for verb in ("plot", "report"):
        assert f"`tttkit status {shlex.quote(str(run.path))}`" in tttkit(verb, run.path).error


def test_the_last_screen():
    result = {"step": 6, "total_checkpoints_evaluated": 1, "best_selection_ppl": 3.0, "best_checkpoint_idx": 0}
    rows = dict(last_screen(None, result, "runs/my run", 1.0))
    assert [shlex.split(line)[1:] for line in rows["next"].splitlines()] == [
        ["status", "runs/my run"],
        ["plot", "runs/my run"],
        ["eval", "checkpoint", "runs/my run/best_model"],
    ]
