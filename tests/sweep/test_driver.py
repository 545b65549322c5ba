"""The driver with real runs: workers, failures, and interruptions of the driver and of its runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL, run_process, start, tttkit, wait_until
from tttkit.run.directory import RunDirectory, is_locked


@pytest.fixture
def study(tiny_data, tmp_path, monkeypatch):
    """Write a study of two models with the values given; return a function that writes it."""
    monkeypatch.chdir(tmp_path)

    def write(max_steps: int = 6, **top: object) -> str:
        options = {option.removeprefix("--set=").partition("=")[0]: option for option in SMALL if "--set" in option}
        fixed = {key: json.loads(option.rpartition("=")[2]) for key, option in options.items()}
        fixed |= {
            "train.window": 16, "train.batch_size": 4, "train.save_every": 3, "train.max_steps": max_steps,
            "evaluation.num_checkpoints": 2, "evaluation.max_length": 64, "evaluation.num_sequences": 2,
        }  # fmt: skip
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"data": str(tiny_data), "seeds": [1], **top}.items()]
        lines += ["[fixed]", *(f'"{key}" = {json.dumps(value)}' for key, value in fixed.items())]
        lines += ["[vary]", 'model = ["ttt-linear", "sw"]']
        (tmp_path / "models.toml").write_text("\n".join(lines))
        return "models.toml"

    return write


def states(path="studies/models") -> list[str]:
    return [item["state"] for item in json.loads(tttkit("status", path, "--json").out)]


def test_a_study_is_trained_once_and_shown(study):
    shown = tttkit("sweep", study(), "--dry-run")
    assert shown.code == 0
    assert shown.out.count("waiting") == 2
    result = tttkit("sweep", study(), "--workers", 2, "--threads", 1, "--json")
    assert result.code == 0, result.err
    values = json.loads(result.out)
    assert [row["states"] for row in values["settings"]] == [["finished"], ["finished"]]
    means = [row["mean"] for row in values["settings"]]
    assert means == sorted(means)
    best = RunDirectory(Path(values["settings"][0]["runs"][0])).read_summaries()[-1]
    assert means[0] == pytest.approx(best.selection_ppl)
    assert values["effects"][0]["pairs"] == 1
    again = tttkit("sweep", study())
    assert again.code == 0
    assert "started" not in again.err
    assert tttkit("compare", "studies/models").code == 0
    more = tttkit("sweep", study(seeds=[1, 2]))
    assert more.err.count("started") == 2


def test_the_same_command_goes_on_after_any_interruption(study):
    name = study(max_steps=400)
    command = ("sweep", name, "--workers", 2, "--threads", 1)
    with start(*command) as driver:
        wait_until(lambda: len(logged()) == 2 and min(logged()) > 3, driver)
        driver.send_signal(signal.SIGTERM)
        _, err = driver.communicate(timeout=60)
    assert driver.returncode == 75
    assert "every run goes on" in err
    assert states() == ["preempted", "preempted"]
    with start(*command) as driver:
        wait_until(lambda: any(is_locked(run) for run in runs_at_study()), driver)
        driver.kill()
    # the runs outlive their driver, and the next one waits for them
    result = run_process(*command)
    assert result.code == 0, result.err
    assert "waiting for another process that trains" in result.err
    assert states() == ["finished", "finished"]


def test_a_run_that_fails_is_named_and_the_others_go_on(study, tmp_path):
    name = study(objective="nope")
    result = run_process("sweep", name)
    assert result.code == 2
    assert "have no `nope`" in result.err
    # a run directory that holds something else cannot be trained
    run = next(run for run in (tmp_path / "studies/models/trials").iterdir())
    (run / "metadata.json").write_text("{")
    result = run_process("sweep", study())
    assert result.code == 1
    assert f"error: runs that failed: {run.name}" in result.err
    assert "metadata.json" in (tmp_path / f"studies/models/logs/{run.name}.log").read_text()
    assert result.out.count("1 finished") == 1


def runs_at_study() -> list[RunDirectory]:
    trials = Path("studies/models/trials")
    return [RunDirectory(run) for run in trials.iterdir()] if trials.exists() else []


def logged() -> list[int]:
    return [len(run.read_metrics()) for run in runs_at_study()]
