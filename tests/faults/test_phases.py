"""Promise: a kill in any phase of a run leaves models complete, and the run resumes with the same bits.

Runs are killed by SIGKILL while they resume, evaluate, replace the best model, remove old training checkpoints, and
write the final model; `tttkit eval checkpoint` and `tttkit plot` are killed at their calls. See docs/reliability.md.
"""

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
    "removing old training checkpoints": (Touching("state/.tmp-step_", removing=True), 1),
    "writing the final model": (Touching("final_model"), 3),
}
"""The calls that belong to a phase, and by how many calls each kill comes later than the previous one."""


def assert_models_complete(run: RunDirectory) -> None:
    for path in (run.best_model, run.final_model):
        if path.exists():
            commits.verify_directory(path)


def kill_in_phase(values, reference, tmp_path, phase: str, num_kills: int) -> None:
    matches, stride = PHASES[phase]
    run, done, number = RunDirectory(tmp_path / "run_0"), 0, 1
    while done < num_kills:
        code = run_trial(trials.train, values, str(run.path), disk=KilledAt(number, matches), log=str(tmp_path / "log"))
        assert_models_complete(run)
        if code == 0:  # no matching call was left: continue with a new run
            assert_equal_runs(run, reference)
            run, number = RunDirectory(tmp_path / f"run_{done}"), 1
            continue
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()[-2000:]
        done, number = done + 1, number + stride
    assert run_trial(trials.train, values, str(run.path)) == 0
    assert_equal_runs(run, reference)


@pytest.mark.parametrize("phase", PHASES)
def test_2_kills_in_a_phase_leave_the_same_bits(values, reference, tmp_path, phase):
    kill_in_phase(values, reference, tmp_path, phase, 2)


@pytest.mark.faults
@pytest.mark.parametrize("phase", PHASES)
def test_10_kills_in_a_phase_leave_the_same_bits(values, reference, tmp_path, phase):
    kill_in_phase(values, reference, tmp_path, phase, 10)


def results_of(directory) -> dict[str, object]:
    """Return the results of an evaluation, without the values that differ between any two evaluations."""
    results = {
        path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and path.name != "run.lock"
    }
    results["summary.json"] = {**read_json(directory / "summary.json"), "eval_seconds": 0, "path": ""}
    return results


@pytest.mark.faults
def test_kills_of_eval_checkpoint_leave_complete_results(reference, tmp_path):
    """Results are complete and equal to those of an evaluation that was never killed."""
    command = ["eval", "checkpoint", str(reference.best_model), "--max-length", "64", "--num-sequences", "70", "--out"]
    assert run_trial(trials.command, [*command, str(tmp_path / "whole")]) == 0
    whole, out, number = results_of(tmp_path / "whole"), tmp_path / "out", 0
    for number in (1, 2, 5, 9, 14, 20, 27, 35, 44, 54):
        code = run_trial(trials.command, [*command, str(out)], disk=KilledAt(number))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if (out / "summary.json").exists():
            assert results_of(out) == whole, "summary.json is written last"
    assert number > 14
    assert run_trial(trials.command, [*command, str(out)]) == 0
    assert results_of(out) == whole
    assert_no_leftovers(out)


@pytest.mark.faults
def test_kills_of_plot_leave_the_old_or_the_new_figures(reference, tmp_path):
    """Each figure of the run is complete, the old one or the new one."""
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    assert run_trial(trials.command, ["plot", str(run.path)]) == 0
    before = {path: path.read_bytes() for path in run.path.rglob("*.png")}
    assert before
    for number in range(1, 11):
        assert run_trial(trials.command, ["plot", str(run.path)], disk=KilledAt(number)) == -signal.SIGKILL
        assert {path: path.read_bytes() for path in run.path.rglob("[!.]*.png")} == before
