"""One measurement at a time in a directory, whose finished parts last until the results are written."""

from __future__ import annotations

import numpy as np
import pytest

from tttkit.errors import RunLockedError
from tttkit.evaluate.blocks import measuring
from tttkit.results.recall import Recall
from tttkit.results.values import read_known


def _part(blocks, value):
    return blocks.arrays("part", lambda: {"value": np.array([value])})["value"].item()


def test_an_exception_keeps_the_finished_parts_and_the_end_removes_them(tmp_path):
    with pytest.raises(KeyboardInterrupt), measuring(tmp_path / "out", "key") as blocks:
        assert _part(blocks, 1) == 1
        raise KeyboardInterrupt
    with measuring(tmp_path / "out", "key") as blocks:
        assert _part(blocks, 2) == 1
    assert not blocks.path.exists()
    with measuring(tmp_path / "out", "key") as blocks:
        assert _part(blocks, 3) == 3


def test_parts_of_another_measurement_are_not_used(tmp_path):
    with pytest.raises(KeyboardInterrupt), measuring(tmp_path, "key") as blocks:
        _part(blocks, 1)
        raise KeyboardInterrupt
    with measuring(tmp_path, "other key") as blocks:
        assert _part(blocks, 2) == 2
    assert not list(tmp_path.glob(".nll-*"))


def test_a_directory_is_held_by_one_measurement(tmp_path):
    with (
        measuring(tmp_path, "key"),
        pytest.raises(RunLockedError, match="is in use"),
        measuring(tmp_path, "key"),
    ):
        pass
    with measuring(tmp_path, "key"):
        pass


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    (tmp_path / ".tmp-recall.json-0").write_text("half")
    with measuring(tmp_path, "key"):
        assert not list(tmp_path.glob(".tmp-*"))


def test_results_are_known_if_their_key_is_the_same(tmp_path):
    def read(_):
        return Recall({"recall_key": "a"})

    assert read_known(read, tmp_path, "recall_key", "a") is not None
    assert read_known(read, tmp_path, "recall_key", "b") is None
    assert read_known(read, tmp_path, "quality_key", "a") is None
