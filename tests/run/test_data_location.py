"""A run finds its data wherever it was moved, by their fingerprint."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tttkit.errors import DataError, UsageError
from tttkit.run.data_location import data_of_run, find_data, fingerprint_of, path_to_record
from tttkit.run.directory import RunDirectory, quoted


def make_data(path, fingerprint):
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"fingerprint": fingerprint}))
    return path


@pytest.fixture
def project(tmp_path):
    """A project with a run and its data side by side."""
    data = make_data(tmp_path / "old" / "texts" / "d", "right")
    run = RunDirectory(tmp_path / "old" / "runs" / "r")
    run.path.mkdir(parents=True)
    run.metadata.write_text(json.dumps({"data": {"path": path_to_record(run, data), "fingerprint": "right"}}))
    return tmp_path / "old"


def test_only_paths_inside_the_run_are_recorded_relative_to_it(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "runs" / "r")
    run.path.mkdir(parents=True)
    (tmp_path / "link").symlink_to(run.path)
    monkeypatch.chdir(tmp_path)
    for data, expected in (
        (run.path / "data", "data"),
        (tmp_path / "link" / "data", "data"),
        (RunDirectory(tmp_path / "link").path / "a" / "b", "a/b"),
    ):
        assert path_to_record(run, data) == path_to_record(RunDirectory(tmp_path / "link"), data) == expected
    assert path_to_record(run, (tmp_path / "runs").relative_to(tmp_path)) == str(tmp_path / "runs")


def test_a_project_that_was_moved(project, tmp_path, monkeypatch):
    assert data_of_run(RunDirectory(project / "runs" / "r")) == project / "texts" / "d"
    monkeypatch.chdir("/")
    moved = project.rename(tmp_path / "new")
    assert data_of_run(RunDirectory(moved / "runs" / "r")) == moved / "texts" / "d"
    (moved / "elsewhere").mkdir()
    run = RunDirectory((moved / "runs" / "r").rename(moved / "elsewhere" / "renamed"))
    assert data_of_run(run) == moved / "texts" / "d"
    monkeypatch.chdir(moved / "elsewhere")
    assert data_of_run(RunDirectory(run.path.relative_to(moved / "elsewhere"))) == moved / "texts" / "d"


def test_the_run_alone_was_moved_and_called_from_the_project(project, tmp_path, monkeypatch):
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    (tmp_path / "far" / "away").mkdir(parents=True)
    run = RunDirectory((project / "runs" / "r").rename(tmp_path / "far" / "away" / "r"))
    copied = project.rename(tmp_path / "far" / "project")
    monkeypatch.chdir(copied)
    assert data_of_run(run) == copied / "texts" / "d"


def test_a_place_with_other_data_is_passed_over(project):
    run = RunDirectory(project / "runs" / "r")
    (project / "texts" / "d").rename(project / "runs" / "d")
    make_data(project / "texts" / "d", "wrong")
    assert data_of_run(run) == project / "runs" / "d"
    shutil.rmtree(project / "runs" / "d")
    recorded = run.read_metadata()["data"]
    assert find_data(run, recorded) == project / "texts" / "d", "the caller says what changed"
    with pytest.raises(DataError, match="its fingerprint was right and is wrong") as error:
        data_of_run(run)
    assert "--data DATA" in error.value.hint


def test_data_that_are_nowhere(project):
    shutil.rmtree(project / "texts")
    with pytest.raises(UsageError, match=r"the data of .*/runs/r are not at .*/texts/d") as error:
        data_of_run(RunDirectory(project / "runs" / "r"))
    assert "--data DATA" in error.value.hint


def test_a_run_without_data_and_a_manifest_that_is_none(tmp_path):
    (tmp_path / "metadata.json").write_text("{}")
    assert data_of_run(RunDirectory(tmp_path)) is None
    for text in ("[]", "{", '{"fingerprint": 1}'):
        (tmp_path / "manifest.json").write_text(text)
        assert fingerprint_of(tmp_path) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("runs/quick", "runs/quick"), ("-dash", "./-dash"), ("a b", "'a b'"), ("$x", "'$x'"), ("小説", "'小説'"),
        ("caf\udce9", r"$'caf\xe9'"), ("a\n'b\\", r"$'a\x0a\x27b\x5c'"),
    ],
)  # fmt: skip
def test_a_path_in_a_command(path, expected):
    assert quoted(Path(path)) == expected
    shown = subprocess.run(["bash", "-c", f"printf %s {quoted(Path(path))}"], capture_output=True, check=True).stdout
    assert shown.decode(errors="surrogateescape").removeprefix("./") == path
