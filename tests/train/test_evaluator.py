from __future__ import annotations

import pytest
from safetensors.torch import load_file

from tests.training import train
from tttkit.errors import DiskFullError
from tttkit.train import evaluator
from tttkit.train.resume.progress import TrainingProgress


def run_with_broken_exports(values, out, monkeypatch, is_broken):
    """Train while `is_broken(number)` says which exports of a model fail, counted from 1."""
    export, numbers = evaluator.export_model, []

    def export_or_fail(model, path, config, split):
        numbers.append(path.name)
        if is_broken(len(numbers)):
            raise DiskFullError("disk full")
        export(model, path, config, split)

    monkeypatch.setattr(evaluator, "export_model", export_or_fail)
    run = train(values, out).run
    monkeypatch.setattr(evaluator, "export_model", export)
    return run


def test_an_export_that_failed_is_written_later_with_the_weights_of_its_step(tiny_values, tmp_path, monkeypatch):
    """The weights have moved on by then."""
    values = tiny_values(train={"keep_weights": True})
    whole = train(values, tmp_path / "whole").run
    run = run_with_broken_exports(values, tmp_path / "run", monkeypatch, lambda number: number in (3, 4))
    for index in range(4):
        ours, theirs = (load_file(each.checkpoint(index) / "model" / "model.safetensors") for each in (run, whole))
        assert all((ours[name] == theirs[name]).all() for name in theirs), index


def test_evaluations_are_reported_and_listed_in_order(tiny_values, tmp_path):
    events = []
    values = tiny_values(early_stopping={"patience": 2, "min_delta": "99%", "min_steps_ratio": 0})
    run = train(values, tmp_path / "run", report=events.append).run
    evaluations = [event for event in events if event["event"] == "evaluation"]
    assert [(e["summary"]["step"], e["num_waiting"], e["is_last"]) for e in evaluations] == [
        (0, 0, False), (4, 1, False), (8, 2, True),
    ]  # fmt: skip
    assert [event["summary"] for event in evaluations] == run.read_summaries()
    shares = [event["done"] for event in events if event["event"] == "evaluating" and event["step"] == 4]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] > 0.5


def test_a_restored_run_forgets_later_evaluations(tiny_values, tmp_path):
    run = train(tiny_values(), tmp_path / "run").run
    subject = evaluator.Evaluator(
        run=run, config=None, model=None, splits={}, metadata=None, log=None, report=print, signals=None,
        schedule=[0, 4, 8, 12], pace=None, early_stopping=None,
    )  # fmt: skip
    subject.forget_later(TrainingProgress(step=6, evaluated=[0, 4]))
    assert [item["step"] for item in subject.summaries] == [0, 4]


@pytest.mark.parametrize("name", ["best_model", "final_model"])
def test_an_exported_model_names_window_and_tokenizer(tiny_values, tiny_data, tmp_path, name):
    from tttkit.storage.files import read_json

    run = train(tiny_values(train={"max_steps": 2}), tmp_path / "run").run
    config = read_json(run.path / name / "config.json")
    assert config["window"] == 16
    assert (run.path / name / "tokenizer.json").read_bytes() == (tiny_data / "tokenizer.json").read_bytes()
