from __future__ import annotations

import pytest

from tttkit.health import environment
from tttkit.health.doctor import examine_run
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits, files


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A run that was stopped at step 444 and has training checkpoints of steps 300 and 400."""
    run = RunDirectory(tmp_path)
    files.write_json(run.metadata, {"config": {}, "result": {"reason": "preempted", "step": 444}})
    for step in (300, 400):
        with commits.commit_directory(run.states / f"step_{step}") as directory:
            files.write_json(directory / "state.json", {"step": step})
    return run


def digests(run: RunDirectory, *, fix: bool = False) -> list[tuple[str, str]]:
    """Return level and message of what was examined under `digests`, without the path of the run."""
    results = [result for result in examine_run(run, fix=fix) if result.check == "digests"]
    return [(result.level, result.message.replace(f"{run.path}/", "")) for result in results]


def test_the_newest_valid_training_checkpoint_is_read_from_the_disk_not_from_metadata(run):
    assert digests(run)[-1] == ("ok", "the newest valid training checkpoint is of step 400")
    (run.states / "step_400" / "state.json").write_text("{}")
    assert digests(run)[0] == ("error", "state/step_400/state.json has 2 bytes, but its manifest says 18")
    assert digests(run)[-1] == ("ok", "the newest valid training checkpoint is of step 300")
    assert digests(run, fix=True)[0][1].endswith("; renamed to step_400.corrupt-0")
    assert digests(run)[-1] == ("ok", "the newest valid training checkpoint is of step 300")


def test_a_run_without_a_valid_training_checkpoint_cannot_be_resumed(run):
    for step in (300, 400):
        (run.states / f"step_{step}" / "state.json").unlink()
    assert digests(run)[-1] == ("error", "no valid training checkpoint is left to resume from")


def test_damaged_metadata_does_not_stop_the_examination(run):
    (run.checkpoint(0)).mkdir()
    files.write_json(run.checkpoint(0) / "summary.json", {"step": 0})
    run.metadata.write_text("{")
    results = examine_run(run)
    assert [result.check for result in results if result.level == "error"] == ["json"]
    assert "metadata.json is not valid JSON" in next(result.message for result in results if result.level == "error")


def test_a_missing_package_is_an_error(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "_PACKAGES", ("numpy", "no-such-package"))
    levels = {result.message: result.level for result in environment.examine_environment()}
    assert levels["no-such-package is missing"] == "error"
    assert levels["the extension loads"] == "ok"
