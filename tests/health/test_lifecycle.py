"""The words of `status` about runs that ended: what is saved is read from the training checkpoints on disk."""

from __future__ import annotations

import json

import pytest

from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.run.pruned_file import Pruned, write_pruned
from tttkit.run.saved import describe_saved, newest_saved_step
from tttkit.storage import files
from tttkit.train.logs.metrics import RunLog


@pytest.fixture
def make_run(tmp_path):
    """Make a run of 1,000 steps that stopped at `step` for a reason, with training checkpoints of some steps."""

    def make(reason: str | None, step: int, *saved: int) -> RunDirectory:
        run = RunDirectory(tmp_path / "run")
        for number in saved:
            (run.states / f"step_{number}").mkdir(parents=True)
        run.path.mkdir(exist_ok=True)
        with exclusive(run):
            RunLog(run).heartbeat("training", step)
        metadata = {
            "schema_version": 1, "command": ["tttkit", "train"], "early_stopping": {"patience": 3},
            "config": {"train": {"max_steps": 1000}, "optimizer": {"learning_rate": 0.02}},
            "segments": [{"started": "2026-01-01T00:00:00+00:00", "reason": reason}],
        }  # fmt: skip
        if reason is not None:
            metadata["result"] = {"reason": reason, "step": step, "saved_step": step}
        files.write_json(run.metadata, metadata)
        return run

    return make


@pytest.mark.parametrize("reason", ["preempted", None, "finished"])
def test_a_run_that_a_study_pruned_is_told_from_one_that_was_stopped(make_run, reason):
    run = make_run(reason, 444, 400)
    write_pruned(run, Pruned(step=400, key="selection_ppl", objective=8.0, best=7.5, median=5.0, others=4))
    status = read_status(run)
    assert status.state == ("finished" if reason == "finished" else "pruned")
    if reason != "finished":
        assert status.reason.startswith("pruned at step 400 with selection_ppl 8.00: its best, 7.50, is worse than")
        assert status.next_command == f"tttkit resume {run.path}  (resumes from step 400)"
    run.pruned.write_text("{")
    assert read_status(run).state == (reason or "crashed"), "a damaged file says nothing"


def test_status_tells_how_many_steps_of_a_stopped_run_are_not_saved(make_run):
    """SIGTERM came at step 444, and the grace period ended before the last save; metadata knows only the step."""
    run = make_run("preempted", 444, 300, 400)
    status = read_status(run)
    assert (status.state, status.step, status.saved_step) == ("preempted", 444, 400)
    assert status.reason == f"stopped by a signal at step 444; {describe_saved(400, 444)}"
    assert "400" in status.reason
    assert "44 steps" in status.reason
    assert status.next_command == f"tttkit resume {run.path}  (resumes from step 400)"


ENDS = {
    "preempted": "stopped by a signal at step 444",
    "disk-full": "the disk was full at step 444, so the results could not be written",
    "nan-stopped": "loss, gradients, or fast weights were not finite at step 444",
    None: "ended without recording why, at most 0 s ago, at about step 444",
}
"""By the reason in metadata.json: the start of the reason in `status`, without the process."""


@pytest.mark.parametrize("reason", ENDS)
@pytest.mark.parametrize("saved", [(), (0,), (400,), (396, 400), (443,), (440, 444)])
def test_every_end_tells_what_the_disk_holds(make_run, reason, saved):
    run = make_run(reason, 444, *saved)
    status = read_status(run)
    newest = max(saved, default=None)
    assert status.saved_step == newest == newest_saved_step(run)
    assert f"{ENDS[reason]}; {describe_saved(newest, 444)}" in status.reason
    if reason != "nan-stopped":
        resumed = "starts again at step 0" if newest is None else f"resumes from step {newest}"
        assert status.next_command == f"tttkit resume {run.path}  ({resumed})"


@pytest.mark.parametrize(
    ("reason", "words"),
    [("finished", "all steps done at step 444"), ("early-stopped", "no improvement in 3 evaluations, at step 444")],
)
def test_a_run_that_is_over_claims_nothing_about_training_checkpoints(make_run, reason, words):
    """Training checkpoints may have been deleted to free space; the run is kept for its results."""
    for saved in ((), (400,)):
        assert read_status(make_run(reason, 444, *saved)).reason == words


def test_unfinished_and_damaged_training_checkpoints_are_not_counted(make_run):
    run = make_run("preempted", 444, 400)
    (run.states / ".tmp-step_444-7-0123abcd").mkdir()
    (run.states / "step_440.corrupt-0").mkdir()
    assert read_status(run).saved_step == 400
    assert describe_saved(400, 444) in read_status(run).reason


def test_a_run_that_was_stopped_before_its_first_step(make_run):
    assert read_status(make_run("preempted", 0)).reason == "stopped by a signal before the first step"


def test_reasons_are_json(make_run):
    status = read_status(make_run("preempted", 444, 400))
    assert json.loads(json.dumps(status.to_dict()))["reason"] == status.reason
