"""A4: SIGKILL while resuming, evaluating, replacing the best model, dropping old states, evaluating and plotting."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.faults import trials
from tests.faults.conftest import assert_equal_runs, assert_no_leftovers, run_trial
from tests.faults.disks import KilledAt, Touching, everything
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits
from tttkit.storage.files import read_json

PHASES = {
    "resuming": (everything, 1),
    "evaluating": (Touching("checkpoint_0"), 1),
    "replacing the best model": (Touching("best_model"), 5),
    "dropping old states": (Touching("state/.tmp-step_", removing=True), 1),
    "writing the final model": (Touching("final_model"), 3),
}
"""Which calls of a run are meant, and how many are passed over from one kill to the next."""


def assert_models_whole(run: RunDirectory) -> None:
    for path in (run.best_model, run.final_model):
        if path.exists():
            commits.verify_directory(path)


def kill_in_phase(values, reference, tmp_path, phase: str, num_kills: int) -> None:
    matches, stride = PHASES[phase]
    run, done, number = RunDirectory(tmp_path / "run_0"), 0, 1
    while done < num_kills:
        code = run_trial(trials.train, values, str(run.path), disk=KilledAt(number, matches), log=str(tmp_path / "log"))
        assert_models_whole(run)
        if code == 0:  # fewer calls were left than passed over: the next run from its start
            assert_equal_runs(run, reference)
            run, number = RunDirectory(tmp_path / f"run_{done}"), 1
            continue
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()[-2000:]
        done, number = done + 1, number + stride
    assert run_trial(trials.train, values, str(run.path)) == 0
    assert_equal_runs(run, reference)


@pytest.mark.parametrize("phase", PHASES)
def test_a4_killed_in_a_phase(values, reference, tmp_path, phase):
    kill_in_phase(values, reference, tmp_path, phase, 2)


@pytest.mark.faults
@pytest.mark.parametrize("phase", PHASES)
def test_a4_killed_ten_times_in_a_phase(values, reference, tmp_path, phase):
    kill_in_phase(values, reference, tmp_path, phase, 10)


def results_of(directory) -> dict[str, object]:
    """What an evaluation wrote, without what no two have in common."""
    found = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and path.name != "run.lock"}
    found["summary.json"] = {**read_json(directory / "summary.json"), "eval_seconds": 0, "path": ""}
    return found


@pytest.mark.faults
def test_a4_killed_while_evaluating_a_model(reference, tmp_path):
    """`tttkit eval checkpoint`, killed at its calls: results come whole, and equal to an uninterrupted one's."""
    command = ["eval", "checkpoint", str(reference.best_model), "--max-length", "64", "--num-sequences", "70", "--out"]
    assert run_trial(trials.command, [*command, str(tmp_path / "whole")]) == 0
    whole, out, number = results_of(tmp_path / "whole"), tmp_path / "out", 0
    for number in (1, 2, 5, 9, 14, 20, 27, 35, 44, 54):
        code = run_trial(trials.command, [*command, str(out)], disk=KilledAt(number))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if (out / "summary.json").exists():
            assert results_of(out) == whole, "it comes last"
    assert number > 14
    assert run_trial(trials.command, [*command, str(out)]) == 0
    assert results_of(out) == whole
    assert_no_leftovers(out)


@pytest.mark.faults
def test_a4_killed_while_plotting(reference, tmp_path):
    """The figures of a run are the old ones or the new ones."""
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    assert run_trial(trials.command, ["plot", str(run.path)]) == 0
    before = {path: path.read_bytes() for path in run.path.rglob("*.png")}
    assert before
    for number in range(1, 11):
        assert run_trial(trials.command, ["plot", str(run.path)], disk=KilledAt(number)) == -signal.SIGKILL
        assert {path: path.read_bytes() for path in run.path.rglob("[!.]*.png")} == before
