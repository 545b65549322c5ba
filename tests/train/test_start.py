from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.training import train
from tttkit.errors import DataError, UsageError
from tttkit.models import load_model
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits

_PROCESS = """
import json, sys
from pathlib import Path
from tttkit.config.run import build_config
from tttkit.errors import TttkitError
from tttkit.train.start import train
try:
    config = build_config(json.loads(sys.argv[1]))
    train(config, Path(sys.argv[2]), report=lambda event: print(json.dumps(event.to_dict()), flush=True))
except TttkitError as error:
    sys.exit(error.exit_code)
"""


def _train(values, out):
    events = []
    outcome = train(values, out, report=events.append)
    return outcome, events


def _start(values, out):
    command = [sys.executable, "-c", _PROCESS, json.dumps(values), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _losses(run):
    return [(record["step"], record["loss"].hex()) for record in run.read_metrics()]


def _weights(run, name="final_model"):
    return (run.path / name / "model.safetensors").read_bytes()


@pytest.fixture
def whole_run(tiny_values, tmp_path):
    outcome, events = _train(tiny_values(), tmp_path / "whole")
    return outcome.run, events


def test_the_run_directory_holds_all_documented_files(whole_run, tiny_data):
    run, events = whole_run
    assert [event["event"] for event in events if event["event"] not in ("step", "evaluating")] == [
        "plan", "evaluation", "saved", "evaluation", "saved", "evaluation", "saved", "evaluation", "saved",
    ]  # fmt: skip
    names = {entry.name for entry in run.path.iterdir()}
    assert names >= {
        "metadata.json", "training.log", "metrics.jsonl", "all_summaries.json", "best_model", "final_model", "state",
        "run.lock", "heartbeat.json", "checkpoint_000", "checkpoint_003",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(".tmp-")]
    assert {entry.name for entry in run.best_model.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert (run.best_model / "tokenizer.json").read_bytes() == (tiny_data / "tokenizer.json").read_bytes()
    metadata = run.read_metadata()
    assert metadata["result"]["reason"] == "finished"
    assert metadata["config"]["model"]["vocab_size"] == 300
    assert [segment["reason"] for segment in metadata["segments"]] == ["finished"]
    summaries = run.read_summaries()
    assert [item.step for item in summaries] == [0, 4, 8, 12]
    assert summaries[0].value("training_loss") is None
    assert summaries[-1].tokens == 12 * 4 * 16
    assert summaries[-1].selection_ppl < summaries[0].selection_ppl


def test_two_runs_are_bit_identical(whole_run, tiny_values, tmp_path):
    first, _ = whole_run
    second = _train(tiny_values(), tmp_path / "again")[0].run
    assert _losses(first) == _losses(second)
    for name in ("best_model", "final_model"):
        for file in (first.path / name).iterdir():
            assert file.read_bytes() == (second.path / name / file.name).read_bytes()


def test_the_environment_sets_the_threads_unless_the_run_does(tiny_values, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for given, expected in ((None, 1), (2, 2)):
        with _start(tiny_values(train={"num_threads": given, "max_steps": 1}), tmp_path / str(given)) as process:
            plan = next(
                event for event in map(json.loads, process.communicate()[0].splitlines()) if event["event"] == "plan"
            )
        assert plan["num_threads"] == expected


def test_accumulation_gives_the_update_of_the_whole_batch(tiny_values, tmp_path):
    """The same windows in one batch of 4 or in 4 micro-batches: the same losses up to rounding."""
    whole = _train(tiny_values(), tmp_path / "a")[0].run
    parts = _train(tiny_values(train={"batch_size": 1, "grad_accumulation": 4}), tmp_path / "b")[0].run
    for left, right in zip(whole.read_metrics(), parts.read_metrics(), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
        assert left["tokens_seen"] == right["tokens_seen"]


def test_killed_and_preempted_run_equals_one_that_never_stopped(whole_run, tiny_values, tmp_path):
    """N steps = some steps + SIGKILL + new process + some steps + SIGTERM + new process + the rest."""
    reference, _ = whole_run
    run = RunDirectory(tmp_path / "stopped")
    for number, last_step in ((signal.SIGKILL, 6), (signal.SIGTERM, 9)):
        with _start(tiny_values(), run.path) as process:
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "step" and event["step"] == last_step:
                    process.send_signal(number)
                    break
            process.stdout.read()
        assert process.returncode == (-9 if number == signal.SIGKILL else 75)
    result = run.read_metadata()["result"]
    assert result["reason"] == "preempted"
    outcome, events = _train(tiny_values(), run.path)
    assert outcome.reason == "finished"
    assert (events[0]["event"], events[0]["state"], events[0]["num_steps_lost"]) == (
        "resumed",
        f"step_{result['step']}",
        0,
    )
    assert _losses(run) == _losses(reference)
    assert _weights(run) == _weights(reference)
    assert _weights(run, "best_model") == _weights(reference, "best_model")
    for left, right in zip(run.read_summaries(), reference.read_summaries(), strict=True):
        assert left.with_values(eval_seconds=0) == right.with_values(eval_seconds=0)
    segments = run.read_metadata()["segments"]
    assert [segment["reason"] for segment in segments] == ["crashed", "preempted", "finished"]
    assert segments[1]["resume_verified"] is True


def test_the_second_signal_exits_at_once(tiny_values, tmp_path):
    values = tiny_values(train={"max_steps": 10_000_000}, evaluation={"num_checkpoints": 0})
    with _start(values, tmp_path / "run") as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "step":
                break
        os.kill(process.pid, signal.SIGSTOP)  # both signals arrive before the loop can handle the first
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)
        process.stdout.read()
    assert process.returncode in (130, 143)


def test_finished_run_is_left_alone_and_another_config_refused(whole_run, tiny_values):
    run, _ = whole_run
    before = _weights(run)
    outcome, events = _train(tiny_values(), run.path)
    assert outcome.already_ended
    assert events == []
    with pytest.raises(UsageError, match=r"optimizer\.learning_rate: 0\.01 -> 0\.5"):
        _train(tiny_values(optimizer={"learning_rate": 0.5}), run.path)
    assert _weights(run) == before
    with pytest.raises(UsageError, match="already holds a run"):
        train(tiny_values(), run.path, report=print, resume=False)


def test_another_config_is_refused_before_data_are_prepared(whole_run, tiny_values, tmp_path):
    """Preparing takes time and would replace the data that the run prepared."""
    run, _ = whole_run
    before = {path.relative_to(run.path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"data\.source: stdlib -> .*other"):
        _train(tiny_values(data={"path": None, "source": str(tmp_path / "other")}), run.path)
    assert {path.relative_to(run.path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_other_data_is_refused(whole_run, tiny_values, tmp_path):
    from tttkit.data import prepare_dataset

    run, _ = whole_run
    metadata = run.read_metadata()
    (tmp_path / "other.txt").write_text("quite another text about other things " * 500)
    prepare_dataset(
        [str(tmp_path / "other.txt")], tmp_path / "other", tokenizer=f"{metadata['data']['path']}/tokenizer.json",
        validation=[str(tmp_path / "other.txt")],
    )  # fmt: skip
    with pytest.raises(UsageError, match="data"):
        _train(tiny_values(data={"path": str(tmp_path / "other")}), run.path)


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"model": {"vocab_size": 999}}, UsageError, "999"),
        ({"evaluation": {"num_sequences": 5000}}, UsageError, "holds"),
        ({"evaluation": {"max_length": 10**6}}, DataError, "one sequence of T=1000000 needs 1000001"),
        ({"train": {"window": 10**6}, "evaluation": {"num_checkpoints": 0}}, DataError, "one window of W=1000000"),
        ({"train": {"device": "tpu9"}}, UsageError, "unknown device"),
        ({"data": {"path": "no-such-folder/data"}}, UsageError, "no-such-folder/data"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(tiny_values, tmp_path, sections, error, message):
    with pytest.raises(error, match=message):
        _train(tiny_values(**sections), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_paths_that_are_not_runs_are_refused(tiny_values, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        _train(tiny_values(), file)
    with pytest.raises(UsageError, match="holds no run"):
        _train(tiny_values(), tmp_path)
    assert file.read_text() == "mine"


def test_early_stopping_ends_the_run(tiny_values, tmp_path):
    values = tiny_values(
        evaluation={"num_checkpoints": 13}, early_stopping={"patience": 2, "min_delta": "99%", "min_steps_ratio": 0.4}
    )
    outcome, _ = _train(values, tmp_path / "run")
    assert outcome.reason == "early-stopped"
    result = outcome.run.read_metadata()["result"]
    assert (result["early_stopped"], result["total_steps_completed"]) == (True, 5)


def test_diverging_run_stops_with_its_own_code_and_saves_only_finite_numbers(tiny_values, tmp_path):
    from tttkit.errors import NumericalError

    values = tiny_values(optimizer={"learning_rate": 1e30, "max_grad_norm": 0.0, "warmup_ratio": 0.0})
    with pytest.raises(NumericalError, match="not finite") as error:
        _train(values, tmp_path / "run")
    assert error.value.exit_code == 5
    run = RunDirectory(tmp_path / "run")
    assert run.read_metadata()["result"]["reason"] == "nan-stopped"
    for parameter in load_model(run.best_model).parameters():
        assert torch.isfinite(parameter).all()


def test_full_disk_keeps_the_last_checkpoint_and_training_continues(tiny_values, tmp_path, monkeypatch):
    from tttkit.errors import DiskFullError
    from tttkit.train.resume import checkpoint

    write_tensors = checkpoint.write_tensors
    calls = []

    def fail_once(path, tensors):
        calls.append(path)
        if len(calls) == 2:
            raise DiskFullError("disk full")
        write_tensors(path, tensors)

    monkeypatch.setattr(checkpoint, "write_tensors", fail_once)
    outcome, events = _train(tiny_values(), tmp_path / "run")
    assert outcome.reason == "finished"
    assert [event["step"] for event in events if event["event"] == "warning"] == [4]
    assert [event["step"] for event in events if event["event"] == "saved"] == [0, 8, 12]


def test_checkpoint_files_verify(whole_run):
    run, _ = whole_run
    for path in run.states.iterdir():
        commits.verify_directory(path)
