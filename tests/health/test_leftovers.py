"""Leftovers of killed commands: found, removed where no living process owns them; work is never removed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tttkit.evaluate.blocks import NllBlocks
from tttkit.health.doctor import examine_environment, examine_run
from tttkit.health.leftovers import examine_leftovers
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.storage import files

KEY = "0123456789abcdef" * 4


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    (tmp_path / "metadata.json").write_text("{}")
    return RunDirectory(tmp_path)


@pytest.fixture
def dead() -> int:
    """Pid of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def found(run: RunDirectory, *, fix: bool) -> dict[str, str]:
    """Messages of the findings without the run's path, and their levels."""
    return {
        item.message.replace(f"{run.path}/", ""): item.level for item in examine_leftovers(run, fix=fix)
    }  # fmt: skip


def temporary(directory: Path, pid: int, name: str = "model") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".tmp-{name}-{pid}-0123abcd"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"half")
    return path


PLACES = ["", "state", "checkpoint_003", "checkpoint_003/.nll-0123456789abcdef", "eval_best_model", "data",
          "eval_final_model/.nll-0123456789abcdef"]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_half_of_a_dead_process_is_removed_wherever_it_is(run, dead, place):
    left = temporary(run.path / place, dead)
    name = str(left.relative_to(run.path))
    assert found(run, fix=False)[f"{name}: left by an interrupted write"] == "warning"
    assert left.exists()
    assert found(run, fix=True)[f"{name}: removed, left by an interrupted write"] == "mended"
    assert not left.exists()
    assert found(run, fix=False) == {}


def test_what_a_living_process_may_be_writing_stays(run):
    with subprocess.Popen(["sleep", "1000"]) as process:
        left = temporary(run.path, process.pid, "ratio_map.png")
        assert list(found(run, fix=True).items()) == [
            (f"{left.name}: process {process.pid}, which may be writing it, lives", "ok")
        ]
        assert left.exists()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, though its parent has not heard of it
        assert list(found(run, fix=True).values()) == ["mended"]
    assert not left.exists()


def test_our_own_number_was_that_of_another_process(run):
    """As in containers, where everything is process 7."""
    left = temporary(run.path, os.getpid())
    assert list(found(run, fix=True).values()) == ["mended"]
    assert not left.exists()


def test_an_evaluation_that_lives_is_left_alone(run, dead):
    place = run.path / "eval_best_model"
    left = temporary(place, dead)
    with exclusive(RunDirectory(place)):
        for fix in (False, True):
            ((message, level),) = found(run, fix=fix).items()
            assert (level, message.partition(": ")[0]) == ("ok", "eval_best_model is in use")
        assert left.exists()
    assert list(found(run, fix=True).values()) == ["mended", "mended"], "the half, then the folder"
    assert not place.exists()


def with_blocks(place: Path, key: str) -> Path:
    blocks = NllBlocks.beside(place, key)
    blocks.fill("sw", np.zeros((2, 9), np.int64), lambda tokens, progress: tokens[:, 1:].astype("f4"), lambda _: None)
    return blocks.path


def test_finished_blocks_are_work_and_stay(run, dead):
    blocks = with_blocks(run.path / "eval_best_model", KEY)
    temporary(blocks, dead)
    ((_, removed), (message, level)) = found(run, fix=True).items()
    assert (removed, level) == ("mended", "warning")
    assert message.startswith("eval_best_model/.nll-0123456789abcdef: 1 blocks, 0.0 MB, of an evaluation that did not")
    assert [entry.name for entry in blocks.iterdir()] == ["sw-000000.safetensors"]


@pytest.mark.parametrize(("known", "stays"), [(KEY, False), ("f" * 64, True)])
def test_blocks_of_a_finished_evaluation_are_removed(run, known, stays):
    """A kill after the last of the results leaves them. Those of another one are work still to be done."""
    place = run.path / "eval_best_model"
    blocks = with_blocks(place, KEY)
    files.write_json(place / "summary.json", {"evaluation_key": known})
    assert list(found(run, fix=True).values()) == ["warning" if stays else "mended"]
    assert blocks.exists() is stays
    assert (place / "summary.json").exists()


def test_the_folder_of_an_evaluation_that_had_only_begun_is_removed(run):
    place = run.path / "eval_best_model"
    place.mkdir()
    with exclusive(RunDirectory(place)):
        NllBlocks.beside(place, KEY)
    assert list(found(run, fix=True).values()) == ["mended", "mended"]
    assert not place.exists()


def test_links_and_other_folders_of_a_run_are_not_entered(run, tmp_path_factory, dead):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    left = temporary(elsewhere, dead)
    (run.path / "eval_link").symlink_to(elsewhere)
    (run.path / "notes").mkdir()
    assert found(run, fix=True) == {}
    assert left.exists()
    assert (run.path / "notes").exists()


def test_a_run_that_is_trained_keeps_all(run, dead):
    left = temporary(run.path / "eval_best_model", dead)
    with exclusive(run):
        assert "what it is writing right now is not judged" in examine_run(run)[0].message
    assert left.exists()


def test_the_current_folder_is_swept_of_what_is_surely_ours(tmp_path, monkeypatch, dead):
    """As a killed `tttkit convert IN OUT` leaves it beside OUT."""
    monkeypatch.chdir(tmp_path)
    ours, foreign = temporary(tmp_path, dead, "converted"), tmp_path / ".tmp-notes"
    foreign.write_text("mine")
    messages = [item.message for item in examine_environment() if item.check == "leftovers"]
    assert messages == [f"{ours.name}: left by an interrupted write"]
    assert ours.exists()
    assert "mended" in [item.level for item in examine_environment(fix=True)]
    assert not ours.exists()
    assert foreign.exists()
