from __future__ import annotations

import pytest

from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory
from tttkit.train.directory import make_or_accept, sweep, withdraw


def test_new_empty_and_own_directories_are_accepted(tmp_path):
    assert make_or_accept(tmp_path / "a" / "b", resume=True).path.is_dir()
    for name in ("run.lock", "data", ".tmp-metadata.json-1-00000000"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="holds no run"):
        make_or_accept(tmp_path, resume=True)
    (tmp_path / "a" / "b").rmdir()
    (tmp_path / "a").rmdir()
    assert make_or_accept(tmp_path, resume=True) == RunDirectory(tmp_path)
    (tmp_path / "metadata.json").write_text("{}")
    (tmp_path / "anything").touch()
    assert make_or_accept(tmp_path, resume=True) == RunDirectory(tmp_path)
    with pytest.raises(UsageError, match="already holds a run"):
        make_or_accept(tmp_path, resume=False)


def test_a_file_and_a_path_below_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        make_or_accept(tmp_path / "file", resume=True)
    with pytest.raises(UsageError, match="cannot make the run directory"):
        make_or_accept(tmp_path / "file" / "run", resume=True)


def test_only_our_leftovers_are_swept(tmp_path):
    run = RunDirectory(tmp_path)
    for directory in (run.path, run.states, run.checkpoint(0)):
        directory.mkdir(exist_ok=True)
        (directory / ".tmp-x-1-00000000").mkdir()
        (directory / "kept").touch()
    sweep(run)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoint_000", "kept", "kept", "kept", "state"]


def test_a_refused_run_leaves_nothing_but_prepared_data(tmp_path):
    for has_data in (False, True):
        run = RunDirectory(tmp_path / str(has_data))
        run.path.mkdir()
        for path in (run.metadata, run.heartbeat, run.training_log, run.metrics, run.lock):
            path.touch()
        if has_data:
            (run.path / "data").mkdir()
        withdraw(run)
        assert run.path.exists() is has_data
        assert not has_data or [path.name for path in run.path.iterdir()] == ["data"]
