from __future__ import annotations

import json
import os
import time

import pytest

from tttkit.errors import DataError, UsageError
from tttkit.run.directory import RunDirectory, find_run
from tttkit.storage import files


def test_metrics_ignore_torn_lines_and_keep_the_later_record(tmp_path):
    run = RunDirectory(tmp_path)
    run.metrics.write_text(
        '{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\nnonsense\n{"step": 2, "loss": 1}\n{"step": 3'
    )
    assert run.read_metrics() == [{"step": 1, "loss": 3}, {"step": 2, "loss": 1}]


def test_readers_of_a_run_that_has_just_started(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.read_summaries() == []
    assert run.read_metrics() == []
    assert run.tail_log(3) == []
    assert run.read_heartbeat() is None
    with pytest.raises(DataError, match=r"missing file: .*metadata\.json"):
        run.read_metadata()


def test_newer_schema_is_refused(tmp_path):
    run = RunDirectory(tmp_path)
    files.write_json(run.metadata, {"schema_version": 99})
    with pytest.raises(DataError, match="schema version 99"):
        run.read_metadata()


def test_evaluation_names_are_anchored(tmp_path):
    for name in ("checkpoint_000", "checkpoint_1000", "checkpoint_001.bak", "checkpoint_1", "xcheckpoint_002"):
        (tmp_path / name).mkdir()
    assert list(RunDirectory(tmp_path).checkpoints()) == [0, 1000]


def test_find_run_takes_the_one_that_started_last(tmp_path):
    for name, started in (("a", "2026-02-01T00:00:00+00:00"), ("b", "2026-01-01T00:00:00+00:00")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.json").write_text(json.dumps({"segments": [{"started": started}]}))
        os.utime(tmp_path / name, (time.time(), time.time()))
    assert find_run(None, root=tmp_path).path.name == "a"


def test_find_run_reports_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match="no run found"):
        find_run(None, root=tmp_path)
    with pytest.raises(UsageError, match="no such run directory"):
        find_run(tmp_path / "absent")
    with pytest.raises(UsageError, match="neither metadata.json"):
        find_run(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="file of another kind"):
        find_run(file)
