"""The driver with real runs: workers, failures, and interruptions of the driver and of its runs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL, run_process, start, tttkit, wait_until
from tests.sweep.made_runs import write_run
from tttkit.run.directory import TRIALS, RunDirectory
from tttkit.run.lock import is_locked
from tttkit.run.pruned_file import Pruned, read_pruned, write_pruned
from tttkit.sweep.driver import Driver
from tttkit.sweep.search import search_of
from tttkit.sweep.study import read_study
from tttkit.sweep.trials import trials_of

MODELS = 'model = ["ttt-linear", "sw"]'
RATES = (0.001, 0.002, 0.003, 0.004, 0.005)
CALL = "from tttkit_cli.app import main; main()"


@pytest.fixture
def study(tiny_data, tmp_path, monkeypatch):
    """Write a study of two models with the values given; return a function that writes it."""
    monkeypatch.chdir(tmp_path)

    def write(max_steps: int = 6, vary: str = MODELS, evaluations: int = 2, **top: object) -> str:
        options = {option.removeprefix("--set=").partition("=")[0]: option for option in SMALL if "--set" in option}
        fixed = {key: json.loads(option.rpartition("=")[2]) for key, option in options.items()}
        fixed |= {
            "train.window": 16, "train.batch_size": 4, "train.save_every": 3, "train.max_steps": max_steps,
            "evaluation.num_checkpoints": evaluations, "evaluation.max_length": 64, "evaluation.num_sequences": 2,
        }  # fmt: skip
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"data": str(tiny_data), "seeds": [1], **top}.items()]
        lines += ["[fixed]", *(f'"{key}" = {json.dumps(value)}' for key, value in fixed.items())]
        lines += ["[vary]", vary]
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


def test_a_run_that_is_killed_is_named_and_goes_on_with_the_bits_of_one_that_was_not(study, tmp_path):
    name = study(max_steps=100, vary='model = ["sw"]')
    command = ("sweep", name, "--threads", 1)
    assert tttkit(*command, "--out", tmp_path / "undisturbed").code == 0
    with start(*command) as driver:
        wait_until(lambda: logged() and min(logged()) > 3, driver)
        (killed,) = runs_at_study()
        os.kill(int(re.search(r"pid (\d+)", killed.lock.read_text())[1]), signal.SIGKILL)
        _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert f"runs that failed: {killed.path.name}" in err
    assert json.loads(tttkit("status", killed.path, "--json").out)["state"] == "crashed"
    assert tttkit(*command).code == 0
    assert [segment["reason"] for segment in killed.read_metadata()["segments"]] == ["crashed", "finished"]
    undisturbed = tmp_path / "undisturbed" / TRIALS / killed.path.name
    for weights in ("final_model/model.safetensors", "best_model/model.safetensors"):
        assert (killed.path / weights).read_bytes() == (undisturbed / weights).read_bytes()
    mine, other = ([each.selection_ppl for each in run.read_summaries()] for run in (killed, RunDirectory(undisturbed)))
    assert mine == other


def test_two_drivers_share_one_study_and_train_every_run_once(study):
    command = ("sweep", study(), "--threads", 1)
    with start(*command) as first, start(*command) as second:
        errors = [driver.communicate(timeout=120)[1] for driver in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert states() == ["finished"] * 2
    assert [len(run.read_metadata()["segments"]) for run in runs_at_study()] == [1] * 2
    # a driver may lose the race for a run to the other, which trains it; it may also see that the run has ended
    assert sum(error.count("ended ") for error in errors) >= 2
    assert "failed" not in "".join(errors)


def test_a_run_worse_than_the_median_is_pruned_although_its_driver_is_killed_before_the_record(study):
    name = study(400, f'"optimizer.learning_rate" = {[*RATES]}', evaluations=21, prune="median")
    pretend_that_all_but_the_first_have_ended(name)
    dies = "import os, tttkit.sweep.driver as d; d.write_pruned = lambda *_: os.kill(os.getpid(), 9); "
    command = ["sweep", name, "--threads", "1"]
    run = first_trial(name).run
    killed = subprocess.run([sys.executable, "-c", dies + CALL, *command], capture_output=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not run.pruned.exists()
    os.kill(int(re.search(r"pid (\d+)", run.lock.read_text())[1]), signal.SIGTERM)
    result = run_process(*command)
    assert result.code == 0, result.err
    assert f"pruned {run.path.name}: optimizer.learning_rate = 0.001: pruned at step " in result.err
    assert "1 pruned at step" in result.out
    pruned = read_pruned(run)
    assert (pruned.median, pruned.others) == (1.0, 4)
    assert pruned.objective == {each.step: each.selection_ppl for each in run.read_summaries()}[pruned.step]
    assert sorted(states()) == ["finished"] * 4 + ["pruned"]
    assert f"left out: {run.path.name}, pruned at step" in tttkit("compare", "studies/models").err
    again = tttkit(*command)
    assert (again.code, again.err) == (0, "")


def test_a_pruned_setting_starts_no_further_seed_until_the_study_stops_pruning(study):
    name = study(6, f'"optimizer.learning_rate" = {[*RATES]}', prune="median")
    pretend_that_all_but_the_first_have_ended(name)
    trial = first_trial(name)
    write_run(trial, "preempted")
    write_pruned(trial.run, Pruned(step=3, key="selection_ppl", objective=9.0, best=9.0, median=1.0, others=4))
    name = study(6, f'"optimizer.learning_rate" = {[*RATES]}', prune="median", seeds=[1, 2])
    shown = json.loads(tttkit("sweep", name, "--dry-run", "--json").out)["settings"]
    (row,) = [row for row in shown if row["setting"]["optimizer.learning_rate"] == RATES[0]]
    assert (row["states"], row["mean"]) == (["pruned", "not started"], None)
    chosen = read_study(Path(name))
    for prune in ("median", "none"):
        driver = driver_of(dataclasses.replace(chosen, prune=prune, seeds=[1]))
        assert (driver._next() is None) == (prune == "median")
    driver._start(trial)
    driver._running[trial.name][1].wait()
    assert not trial.run.pruned.exists(), "the run that goes on is not marked as pruned any more"


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


def first_trial(name):
    chosen, directory = read_study(Path(name)), Path("studies/models").resolve()
    return trials_of(chosen, directory, search_of(chosen, directory).settings()[0])[0]


def driver_of(chosen):
    directory = Path("studies/models").resolve()
    search = search_of(chosen, directory)
    return Driver(
        chosen, directory, search, start=lambda _: subprocess.Popen(["true"]), workers=1, report=lambda *_: None
    )


def pretend_that_all_but_the_first_have_ended(name):
    """Write finished runs with an objective of 1 at every step, which no real run reaches."""
    chosen, directory = read_study(Path(name)), Path("studies/models").resolve()
    for setting in search_of(chosen, directory).settings()[1:]:
        write_run(trials_of(chosen, directory, setting)[0], "finished")


def runs_at_study() -> list[RunDirectory]:
    trials = Path("studies/models/trials")
    return [RunDirectory(run) for run in trials.iterdir()] if trials.exists() else []


def logged() -> list[int]:
    return [len(run.read_metrics()) for run in runs_at_study()]
