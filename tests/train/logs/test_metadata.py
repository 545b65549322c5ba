from __future__ import annotations

import pytest

import tttkit
from tttkit.config.run import build_config
from tttkit.run.directory import SCHEMA_VERSION, RunDirectory
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.pending_writes import PendingWrites
from tttkit.train.resume.progress import TrainingProgress


@pytest.fixture
def metadata(tmp_path) -> Metadata:
    return Metadata.new(RunDirectory(tmp_path), build_config({}), ("tttkit", "train"), PendingWrites())


def read(tmp_path):
    return RunDirectory(tmp_path).read_metadata()


def test_a_new_record_is_written_at_once(metadata, tmp_path):
    values = read(tmp_path)
    assert (values["schema_version"], values["environment"]["tttkit"]) == (SCHEMA_VERSION, tttkit.__version__)
    assert values["run_id"] == metadata.run_id
    other = Metadata.new(RunDirectory(tmp_path), build_config({}), (), PendingWrites())
    assert other.run_id != metadata.run_id


def test_a_segment_that_a_crash_left_open_is_closed_by_the_next(metadata, tmp_path):
    metadata.begin_segment(0, resumed=False)
    metadata.begin_segment(40, resumed=True)
    metadata.verify_segment(False)
    first, second = read(tmp_path)["segments"]
    assert (first["reason"], first["end_step"], first["resume_verified"]) == ("crashed", None, None)
    assert (second["reason"], second["start_step"], second["resume_verified"]) == (None, 40, False)


def test_the_end_of_a_segment_names_the_newest_checkpoint_on_disk(metadata, tmp_path):
    """It is not the step that the process reached."""
    metadata.begin_segment(0, resumed=False)
    for step in (100, 400):
        (tmp_path / "state" / f"step_{step}").mkdir(parents=True)
    metadata.end_segment(TrainingProgress(step=444, tokens_seen=888), "preempted")
    values = read(tmp_path)
    assert values["result"] == {"reason": "preempted", "step": 444, "tokens_seen": 888, "saved_step": 400}
    assert (values["segments"][0]["end_step"], values["segments"][0]["reason"]) == (444, "preempted")
    metadata.begin_segment(400, resumed=True)
    assert "result" not in read(tmp_path), "it runs again"


def test_a_process_that_ends_before_training_has_a_result_and_no_segment(metadata, tmp_path):
    metadata.end_segment(TrainingProgress(), "preempted")
    values = read(tmp_path)
    assert values["segments"] == []
    assert values["result"] == {"reason": "preempted", "step": 0, "tokens_seen": 0, "saved_step": None}


def test_rollbacks_are_listed(metadata, tmp_path):
    metadata.note_rollback(7, 4, 0.5, "not finite")
    (rollback,) = read(tmp_path)["rollbacks"]
    assert {key: rollback[key] for key in ("from_step", "to_step", "lr_scale", "why")} == {
        "from_step": 7, "to_step": 4, "lr_scale": 0.5, "why": "not finite",
    }  # fmt: skip
