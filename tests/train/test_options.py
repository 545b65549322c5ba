from __future__ import annotations

import sys

import pytest

from tests.training import train
from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory
from tttkit.train import start
from tttkit.train.options import RunOptions

SHORT = {"train": {"max_steps": 1}, "evaluation": {"num_checkpoints": 0}}


def test_the_command_line_is_recorded(tiny_values, tmp_path):
    for name, options, expected in (
        ("given", {"command": ("tttkit", "train", "x y")}, ["tttkit", "train", "x y"]),
        ("own", {}, sys.argv),
    ):
        assert train(tiny_values(**SHORT), tmp_path / name, **options).run.read_metadata()["command"] == expected


def test_the_grace_period_reaches_the_signals(tiny_values, tmp_path, monkeypatch):
    seen = []
    signals = start.StopSignals

    def record(*, grace_seconds):
        seen.append(grace_seconds)
        return signals(grace_seconds=grace_seconds)

    monkeypatch.setattr(start, "StopSignals", record)
    train(tiny_values(**SHORT), tmp_path / "default")
    train(tiny_values(**SHORT), tmp_path / "given", grace_seconds=3.0)
    assert seen == [RunOptions().grace_seconds, 3.0]


def test_differences_are_allowed_by_name_only(tiny_values, tmp_path):
    run = train(tiny_values(**SHORT), tmp_path / "run").run
    changed = tiny_values(**SHORT, optimizer={"weight_decay": 0.5})
    for options in ({}, {"allow_change": frozenset({"optimizer.beta1"})}, {"allow_data_change": True}):
        with pytest.raises(UsageError, match=r"optimizer\.weight_decay: 0\.1 -> 0\.5"):
            train(changed, run.path, **options)
    with pytest.raises(
        UsageError, match=r"finished at step 1, so these changes would train nothing: optimizer\.weight_decay"
    ):
        train(changed, run.path, allow_change=frozenset({"optimizer.weight_decay"}))


def test_no_resume_refuses_a_run(tiny_values, tmp_path):
    run = RunDirectory(tmp_path / "run")
    train(tiny_values(**SHORT), run.path, resume=False)
    with pytest.raises(UsageError, match="already holds a run"):
        train(tiny_values(**SHORT), run.path, resume=False)
