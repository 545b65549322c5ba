from __future__ import annotations

from tttkit.run.directory import RunDirectory
from tttkit.run.saved import describe_saved, newest_saved_step, training_checkpoints


def make(tmp_path, *names: str) -> RunDirectory:
    for name in names:
        (tmp_path / "state" / name).mkdir(parents=True)
    return RunDirectory(tmp_path)


def test_training_checkpoints_are_listed_by_number_newest_first(tmp_path):
    run = make(tmp_path, "step_8", "step_12", "step_100", ".tmp-step_104-7-0123abcd", "step_96.corrupt-0", "xstep_200")
    assert training_checkpoints(run) == [(step, run.states / f"step_{step}") for step in (100, 12, 8)]
    assert newest_saved_step(run) == 100


def test_a_run_may_have_no_training_checkpoints(tmp_path):
    run = RunDirectory(tmp_path)
    assert (training_checkpoints(run), newest_saved_step(run)) == ([], None)
    run.states.touch()
    assert (training_checkpoints(run), newest_saved_step(run)) == ([], None)


def test_saved_work_is_described():
    assert describe_saved(None, 7) == "no training checkpoint was saved"
    for saved, step, numbers in ((400, 444, ("400", "44 ")), (443, 444, ("443", "1 step ")), (400, None, ("400",))):
        assert all(number in describe_saved(saved, step) for number in numbers)
    for step in (444, 443):
        assert "444" in describe_saved(444, step)
        assert "steps" not in describe_saved(444, step)
