"""`tttkit resume` and `tttkit doctor`."""

from __future__ import annotations

import json
import shlex
import shutil
import signal

import pytest

from tests.cli.conftest import start, train_options, tttkit, wait_until
from tttkit.config.run import build_config
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.run.saved import training_checkpoints
from tttkit.run.threads import ThreadChoice
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.threads import ThreadWatch


@pytest.fixture
def stopped(tiny_data, tmp_path):
    """A run that was killed after some steps. Only its metadata knows its options."""
    run = RunDirectory(tmp_path / "run")
    with start(*train_options(tiny_data, run.path, "--max-steps", 300, "--save-every", 5, "--plain")) as process:
        wait_until(lambda: run.metrics.exists() and len(run.read_metrics()) > 7, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    return run


def test_resume_uses_the_options_of_the_run(stopped):
    newest, _ = training_checkpoints(stopped)[0]
    lost = stopped.read_metrics()[-1]["step"] - newest
    result = tttkit("resume", stopped.path)
    assert result.code == 0, result.err
    assert f"verified step_{newest} (" in result.err
    assert f"0 damaged skipped, {lost} logged steps to compute again" in result.err
    metadata = stopped.read_metadata()
    assert metadata["result"]["reason"] == "finished"
    assert [segment["reason"] for segment in metadata["segments"]] == ["crashed", "finished"]
    assert metadata["segments"][1]["resume_verified"] is (True if lost else None)
    assert len(stopped.read_metrics()) == 300
    again = tttkit("resume", stopped.path)
    assert again.code == 0
    assert "finished already" in again.err


def test_the_command_in_the_warning_changes_the_number_of_threads(stopped):
    """The command that the warning names works, and later resumes keep the new number."""
    watch = ThreadWatch(
        ThreadChoice(num_threads=4, why="measured", tokens_per_second={4: 900.0, 2: 800.0, 1: 500.0}),
        tokens_per_step=64,
        run=stopped.argument,
    )
    command = shlex.split(watch._judge(100.0, 3.0).split("`")[1])
    assert command == ["tttkit", "resume", str(stopped.path), "--threads", "2"]
    with start(*command[1:], "--plain") as process:
        before = len(stopped.read_metrics())
        wait_until(lambda: len(stopped.read_metrics()) > before + 1, process)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate()[1]
        assert "environment changed, so results may not be bit-identical: num_threads: 1 -> 2" in stderr
    metadata = stopped.read_metadata()
    assert (metadata["environment"]["num_threads"], metadata["threads"]["chosen"]) == (2, 2)
    assert metadata["config"]["train"]["num_threads"] == 2
    result = tttkit("resume", stopped.path)
    assert result.code == 0
    assert "environment changed" not in result.err
    assert "2 threads (train.num_threads)" in result.err
    assert tttkit("resume", stopped.path, "--threads", 0).code == 2


def test_resume_names_skipped_checkpoints(stopped):
    _, newest = training_checkpoints(stopped)[0]
    (newest / "state.json").write_text("{}")
    result = tttkit("resume", stopped.path, "--json")
    assert result.code == 0
    events = [json.loads(line) for line in result.out.splitlines()]
    (resumed,) = [event for event in events if event["event"] == "resumed"]
    assert resumed["skipped"][0].startswith(f"{newest.name}.corrupt-0: ")
    assert resumed["step"] < int(newest.name[5:])


def test_resume_of_something_that_is_not_a_run(tmp_path):
    result = tttkit("resume", tmp_path / "absent")
    assert result.code == 2
    assert "no such run directory" in result.error
    (tmp_path / "all_summaries.json").write_text("[]")
    assert tttkit("resume", tmp_path).code in (2, 65)


def test_resume_of_a_run_that_was_killed_before_it_knew_its_data(tiny_values, tmp_path):
    """The vocabulary is still taken from the data, not from the default of the configuration."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    Metadata.new(run, build_config(tiny_values(train={"max_steps": 1})), ["tttkit"], RunLog(run).writes)
    result = tttkit("resume", run.path, "--quiet")
    assert result.code == 0, result.err
    assert run.read_metadata()["config"]["model"]["vocab_size"] == 300


def test_another_value_is_refused_unless_its_key_is_named(tiny_data, stopped):
    options = train_options(tiny_data, stopped.path, "--max-steps", 300, "--save-every", 5, "--learning-rate", 0.5)
    refused = tttkit(*options)
    assert refused.code == 2
    assert "optimizer.learning_rate: 0.003 -> 0.5" in refused.error
    allowed = tttkit(*options, "--allow-change", "optimizer.learning_rate")
    assert allowed.code == 0, allowed.err
    assert "allowed difference: optimizer.learning_rate" in allowed.err


def test_doctor_finds_no_fault_in_an_intact_run(finished):
    result = tttkit("doctor", finished, "--json")
    assert result.code == 0
    findings = json.loads(result.out)
    assert {item["level"] for item in findings} == {"ok"}
    assert {item["check"] for item in findings} >= {"digests", "json", "lines", "numbers", "data", "disk", "clock"} - {
        "lines"
    }
    assert tttkit("doctor").code == 0


def test_doctor_finds_and_repairs_damage(finished, tmp_path):
    run = RunDirectory(shutil.copytree(finished, tmp_path / "run"))
    (run.states / "step_6" / "tensors.safetensors").write_bytes(b"broken")
    (run.path / ".tmp-x-1-2").mkdir()
    with run.metrics.open("a") as file:
        file.write('{"step": 7, "lo')
    summaries = run.read_summaries()
    run.summaries.write_text(json.dumps([summary.to_dict() for summary in summaries[:-1]]))
    broken = tttkit("doctor", run.path)
    assert broken.code == 65
    shown_parts = (
        "step_6/tensors.safetensors has 6 bytes", ".tmp-x-1-2: left by", "ends in an incomplete line", "steps [6]",
    )  # fmt: skip
    for shown in shown_parts:
        assert shown.replace(" ", "") in "".join(broken.out.split()), "complete, although the table folds it"
    repaired = tttkit("doctor", run.path, "--fix")
    assert repaired.code == 0, repaired.out
    assert (run.states / "step_6.corrupt-0").is_dir()
    assert run.read_summaries() == summaries
    assert not (run.path / ".tmp-x-1-2").exists()
    assert run.metrics.read_text().endswith("\n")
    levels = {item["level"] for item in json.loads(tttkit("doctor", run.path, "--json").out)}
    assert levels == {"ok", "warning"}, "only the training checkpoint that was moved aside is still mentioned"


def test_doctor_repairs_nothing_while_a_trainer_runs(finished, tmp_path):
    run = RunDirectory(shutil.copytree(finished, tmp_path / "run"))
    with exclusive(run):
        assert tttkit("doctor", run.path).code == 0
        assert tttkit("doctor", run.path, "--fix").code == 73


def test_doctor_sees_non_finite_weights(finished, tmp_path):
    from safetensors.torch import load_file, save_file

    run = RunDirectory(shutil.copytree(finished, tmp_path / "run"))
    file = run.final_model / "model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file)
    result = tttkit("doctor", run.path)
    assert result.code == 65
    assert "non-finite values in" in result.out
