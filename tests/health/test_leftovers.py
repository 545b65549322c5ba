"""Leftovers of killed commands are reported, and removed if no live process owns them; work is never removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tttkit.evaluate.blocks import NllBlocks
from tttkit.health.doctor import examine_run
from tttkit.health.environment import examine_environment
from tttkit.health.leftovers import examine_leftovers
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.storage import files

KEY = "0123456789abcdef" * 4


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    (tmp_path / "metadata.json").write_text("{}")
    return RunDirectory(tmp_path)


@pytest.fixture
def dead() -> int:
    """Return the pid of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def levels_of(run: RunDirectory, *, fix: bool) -> dict[str, str]:
    """Return level by message of all leftovers of a run, without the path of the run."""
    return {item.message.replace(f"{run.path}/", ""): item.level for item in examine_leftovers(run, fix=fix)}


def temporary(directory: Path, pid: int, name: str = "model") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".tmp-{name}-{pid}-0123abcd"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"half")
    return path


PLACES = ["", "state", "checkpoint_003", "checkpoint_003/.nll-0123456789abcdef", "eval_best_model", "data",
          "eval_final_model/.nll-0123456789abcdef"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_unfinished_writes_of_dead_processes_are_removed_everywhere(run, dead, place):
    left = temporary(run.path / place, dead)
    name = str(left.relative_to(run.path))
    assert levels_of(run, fix=False)[f"{name}: left by an interrupted write"] == "warning"
    assert left.exists()
    assert levels_of(run, fix=True)[f"{name}: removed, left by an interrupted write"] == "fixed"
    assert not left.exists()
    assert levels_of(run, fix=False) == {}


def test_files_that_a_live_process_may_be_writing_are_kept(run):
    with subprocess.Popen(["sleep", "1000"]) as process:
        left = temporary(run.path, process.pid, "ratio_map.png")
        assert list(levels_of(run, fix=True).items()) == [
            (f"{left.name}: process {process.pid} is alive and may be writing it", "ok")
        ]
        assert left.exists()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead, but not waited for yet
        assert list(levels_of(run, fix=True).values()) == ["fixed"]
    assert not left.exists()


def test_our_own_pid_in_a_name_was_reused(run):
    """In containers, every command may be process 7."""
    left = temporary(run.path, os.getpid())
    assert list(levels_of(run, fix=True).values()) == ["fixed"]
    assert not left.exists()


def test_a_live_evaluation_is_left_alone(run, dead):
    place = run.path / "eval_best_model"
    left = temporary(place, dead)
    with exclusive(RunDirectory(place)):
        for fix in (False, True):
            ((message, level),) = levels_of(run, fix=fix).items()
            assert (level, message.partition("; ")[0]) == ("ok", "eval_best_model is in use")
        assert left.exists()
    assert list(levels_of(run, fix=True).values()) == ["fixed", "fixed"], "the unfinished write, then the directory"
    assert not place.exists()


def with_blocks(place: Path, key: str) -> Path:
    blocks = NllBlocks.beside(place, key)
    blocks.fill("sw", np.zeros((2, 9), np.int64), lambda tokens, progress: tokens[:, 1:].astype("f4"), lambda _: None)
    return blocks.path


def test_finished_blocks_are_kept(run, dead):
    blocks = with_blocks(run.path / "eval_best_model", KEY)
    temporary(blocks, dead)
    ((_, removed), (message, level)) = levels_of(run, fix=True).items()
    assert (removed, level) == ("fixed", "warning")
    assert message.startswith("eval_best_model/.nll-0123456789abcdef: 1 blocks, 0.0 MB, of an unfinished evaluation")
    assert [entry.name for entry in blocks.iterdir()] == ["sw-000000.safetensors"]


@pytest.mark.parametrize(("known", "stays"), [(KEY, False), ("f" * 64, True)])
def test_blocks_of_a_finished_evaluation_are_removed(run, known, stays):
    """A kill after the results are written leaves blocks behind. Blocks of another evaluation are unfinished work."""
    place = run.path / "eval_best_model"
    blocks = with_blocks(place, KEY)
    files.write_json(place / "summary.json", {"evaluation_key": known})
    assert list(levels_of(run, fix=True).values()) == ["warning" if stays else "fixed"]
    assert blocks.exists() is stays
    assert (place / "summary.json").exists()


def test_the_directory_of_an_evaluation_that_had_finished_nothing_is_removed(run):
    place = run.path / "eval_best_model"
    place.mkdir()
    with exclusive(RunDirectory(place)):
        NllBlocks.beside(place, KEY)
    assert list(levels_of(run, fix=True).values()) == ["fixed", "fixed"]
    assert not place.exists()


def test_links_and_other_directories_of_a_run_are_not_entered(run, tmp_path_factory, dead):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    left = temporary(elsewhere, dead)
    (run.path / "eval_link").symlink_to(elsewhere)
    (run.path / "notes").mkdir()
    assert levels_of(run, fix=True) == {}
    assert left.exists()
    assert (run.path / "notes").exists()


def test_nothing_is_removed_from_a_run_that_is_being_trained(run, dead):
    left = temporary(run.path / "eval_best_model", dead)
    with exclusive(run):
        assert "files that it is writing now are not examined" in examine_run(run)[0].message
    assert left.exists()


def test_only_leftovers_that_are_certainly_ours_are_removed_from_the_current_directory(tmp_path, monkeypatch, dead):
    """A killed `tttkit convert IN OUT` leaves a directory beside OUT."""
    monkeypatch.chdir(tmp_path)
    ours, foreign = temporary(tmp_path, dead, "converted"), tmp_path / ".tmp-notes"
    foreign.write_text("mine")
    messages = [item.message for item in examine_environment() if item.check == "leftovers"]
    assert messages == [f"{ours.name}: left by an interrupted write"]
    assert ours.exists()
    assert "fixed" in [item.level for item in examine_environment(fix=True)]
    assert not ours.exists()
    assert foreign.exists()
