from __future__ import annotations

import pytest
from safetensors.torch import load_file

from tests.training import train
from tttkit.errors import DiskFullError
from tttkit.train import evaluator
from tttkit.train.resume.progress import TrainingProgress


def test_an_export_that_failed_is_written_later_with_the_weights_of_its_step(tiny_values, tmp_path, monkeypatch):
    """The disk is full at the evaluation of step 4 and has room from step 8 on, when the weights have changed."""
    values = tiny_values(train={"keep_weights": True})
    whole = train(values, tmp_path / "whole").run
    export, is_full, failed = evaluator.export_model, True, []

    def export_or_fail(model, path, facts, split):
        if is_full and path.parent.name == "checkpoint_001":
            failed.append(path)
            raise DiskFullError("disk full")
        export(model, path, facts, split)

    def make_room(event):
        nonlocal is_full
        if event["event"] == "evaluation":
            is_full = event["summary"]["step"] < 8

    monkeypatch.setattr(evaluator, "export_model", export_or_fail)
    run = train(values, tmp_path / "run", report=make_room).run
    assert len(failed) >= 3, "twice at the evaluation, again at the save of its step"
    for index in range(4):
        files = [each.checkpoint(index) / "model" / "model.safetensors" for each in (run, whole)]
        ours, theirs = map(load_file, files)
        assert all((ours[name] == theirs[name]).all() for name in theirs), index


def test_evaluations_are_reported_and_listed_in_order(tiny_values, tmp_path):
    events = []
    values = tiny_values(early_stopping={"patience": 2, "min_delta": "99%", "min_steps_ratio": 0})
    run = train(values, tmp_path / "run", report=events.append).run
    evaluations = [event for event in events if event["event"] == "evaluation"]
    assert [(e["summary"]["step"], e["num_waiting"], e["is_last"]) for e in evaluations] == [
        (0, 0, False), (4, 1, False), (8, 2, True),
    ]  # fmt: skip
    assert [event["summary"] for event in evaluations] == [summary.to_dict() for summary in run.read_summaries()]
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
    assert [summary.step for summary in subject.summaries] == [0, 4]


@pytest.mark.parametrize("name", ["best_model", "final_model"])
def test_an_exported_model_names_window_and_tokenizer(tiny_values, tiny_data, tmp_path, name):
    from tttkit.storage.files import read_json

    run = train(tiny_values(train={"max_steps": 2}), tmp_path / "run").run
    config = read_json(run.path / name / "config.json")
    assert (config["window"], config["step"], config["tokens_seen"]) == (16, 2, 2 * 4 * 16)
    assert (run.path / name / "tokenizer.json").read_bytes() == (tiny_data / "tokenizer.json").read_bytes()
