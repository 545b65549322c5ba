from __future__ import annotations

import json
import math

import pytest

from tttkit.run import processes
from tttkit.run.directory import RunDirectory
from tttkit.storage import files
from tttkit.train.logs import metrics
from tttkit.train.logs.metrics import RunLog


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_a_torn_line_is_cut_and_new_lines_follow_whole_ones(run):
    run.metrics.write_text('{"step": 1}\n{"st')
    run.training_log.write_text("begun\nhalf")
    log = RunLog(run)
    log.metrics({"step": 2})
    log.write("next")
    assert [record["step"] for record in run.read_metrics()] == [1, 2]
    first, second = run.training_log.read_text().splitlines()
    assert (first, second.partition(" ")[2]) == ("begun", "next")


@pytest.mark.parametrize("value", [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0])
def test_floats_read_back_to_the_same_bits(run, value):
    RunLog(run).metrics({"step": 1, "loss": value})
    assert run.read_metrics()[0]["loss"].hex() == value.hex()


def test_numbers_that_are_not_finite_are_written_as_words(run):
    RunLog(run).metrics({"step": 1, "loss": math.nan, "ppl": -math.inf})
    record = json.loads(run.metrics.read_text(), parse_constant=pytest.fail)
    assert (record["loss"], record["ppl"]) == ("NaN", "-Infinity")


def test_lines_that_a_full_disk_refused_are_written_in_order_later(run, monkeypatch):
    append, is_full = files.append_lines, True

    def append_or_fail(path, lines, *, sync=False):
        if is_full:
            raise OSError(28, "No space left on device")
        append(path, lines, sync=sync)

    monkeypatch.setattr(files, "append_lines", append_or_fail)
    log = RunLog(run)
    for step in (1, 2):
        log.metrics({"step": step})
    assert (run.metrics.exists(), log.sync(), log.writes.problem is not None) == (False, False, True)
    is_full = False
    log.metrics({"step": 3})
    assert [json.loads(line)["step"] for line in run.metric_lines()] == [1, 2, 3]
    assert log.sync()


def test_heartbeats_come_with_each_phase_and_not_too_often(run, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
    log, seen = RunLog(run), []
    for phase, seconds in (("training", 0), ("training", 4), ("saving", 0), ("training", 0), ("training", 5)):
        clock[0] += seconds
        log.heartbeat(phase, 7)
        beat = run.read_heartbeat()
        seen.append((beat["sequence"], beat["phase"]))
    assert seen == [(1, "training"), (1, "training"), (2, "saving"), (3, "training"), (4, "training")]
    assert {key: beat[key] for key in processes.identity()} == processes.identity()
    assert (beat["step"], beat["monotonic"], beat["problem"]) == (7, 1009.0, None)


def test_a_heartbeat_is_overwritten_in_place_on_a_full_disk(run, monkeypatch):
    log = RunLog(run)
    log.heartbeat("training", 1)
    size = run.heartbeat.stat().st_size

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", fail)
    log.writes.problem = "x" * 1000
    log.heartbeat("saving", 2)
    beat = run.read_heartbeat()
    assert (beat["phase"], beat["step"], beat["problem"]) == ("saving", 2, "x" * 400)
    assert run.heartbeat.stat().st_size == size
