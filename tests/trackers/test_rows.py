"""Rows for trackers hold what the files of a run hold."""

from __future__ import annotations

import math

import pytest

from tests.trackers.made_up import add_steps, finish, make_run
from tttkit.errors import UsageError
from tttkit.trackers.rows import read_facts, read_rows


def test_a_row_has_the_values_of_a_step_and_of_its_evaluation(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 4), evaluated=(0, 2))
    rows = {row.step: row for row in read_rows(run).rows}
    assert sorted(rows) == [0, 1, 2, 3]
    assert rows[1].values == {"train/loss": 2.0, "train/lr": 1e-3, "train/inner_loss_before/0": 1.0,
                              "train/inner_loss_before/1": 0.5}  # fmt: skip
    assert rows[2].values["eval/full/ppl_at_1xW"] == 22.0
    assert rows[2].values["eval/sw/ratio_at_2xW_low"] == 0.9
    assert rows[0].time == rows[1].time == 1001.0


def test_a_step_that_was_only_evaluated_has_the_time_of_the_next_logged_step(tmp_path):
    run = make_run(tmp_path / "run", steps=(1, 2, 5), evaluated=(3, 7))
    assert [(row.step, row.time) for row in read_rows(run).rows] == [
        (1, 1001.0), (2, 1002.0), (3, 1005.0), (5, 1005.0), (7, 1005.0),
    ]  # fmt: skip


def test_true_and_false_are_no_numbers(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 3))
    add_steps(run, [3], loss=True)
    assert "train/loss" not in read_rows(run).rows[-1].values


def test_numbers_that_are_not_finite_are_kept(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 3))
    add_steps(run, [3], loss=float("nan"), lr=float("inf"))
    last = read_rows(run).rows[-1].values
    assert math.isnan(last["train/loss"])
    assert last["train/lr"] == math.inf


def test_the_last_row_is_final_once_the_run_has_ended(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 4))
    assert [row.step for row in read_rows(run).final] == [1, 2]
    finish(run)
    assert [row.step for row in read_rows(run).final] == [1, 2, 3]


def test_a_step_that_was_computed_again_is_there_once_with_its_later_values(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 6))
    add_steps(run, range(4, 7), loss=7.0)
    rows = read_rows(run).rows
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.values["train/loss"] for row in rows[-3:]] == [7.0, 7.0, 7.0]


def test_a_run_without_an_id_is_refused(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 3))
    run.metadata.write_text('{"schema_version": 2}')
    with pytest.raises(UsageError, match="no run id"):
        read_facts(run)
