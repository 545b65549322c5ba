"""Evaluate one model directory through the library: order of files, reuse of results, progress, missing results."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from tttkit.config.run import build_config
from tttkit.errors import UsageError
from tttkit.evaluate.model_directory import evaluate_model_directory
from tttkit.evaluate.nll import SCORING
from tttkit.evaluate.request import EvaluationRequest, find_model_directory
from tttkit.evaluate.run_evaluations import complete_summaries, missing_evaluations
from tttkit.models import save_model
from tttkit.results.contexts import CONTEXTS
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory

RESULTS = ["chunk_eval.json", "chunk_nll.safetensors", "run.lock", "summary.json"]


@pytest.fixture
def request_of(tmp_path, text_model, text_data):
    """`request_of(name)` makes a model directory of that name, always with the same weights, and returns a request."""

    def build(name="best_model", **fields):
        save_model(text_model, tmp_path / name, metadata={"window": 16})
        return EvaluationRequest(
            path=tmp_path / name, data=text_data, num_sequences=2, max_length=80, device="cpu", **fields
        )

    return build


def test_the_plot_is_drawn_before_the_summary_makes_the_results_known(request_of, tmp_path):
    seen = []

    def draw(curves, directory):
        seen.append((curves.contexts(), sorted(path.name for path in directory.glob("[a-z]*"))))
        return directory / "plot.png"

    result = evaluate_model_directory(request_of(), tmp_path / "out", draw=draw)
    assert seen == [(["full", "sw", "sw_aligned", "reset"], RESULTS[:3])]
    assert [path.name for path in result.written] == [
        "summary.json", "chunk_eval.json", "chunk_nll.safetensors", "plot.png",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == RESULTS
    again = evaluate_model_directory(request_of(), tmp_path / "out", draw=draw)
    assert (again.written, again.summary, len(seen)) == ((), result.summary, 1)


def test_an_evaluation_killed_at_its_plot_is_not_known(request_of, tmp_path):
    def killed(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_model_directory(request_of(), tmp_path / "out", draw=killed)
    assert evaluate_model_directory(request_of(), tmp_path / "out").written != ()


def test_neighboring_results_of_equal_weights_are_copied_with_a_plot_and_a_message(request_of, tmp_path):
    first = evaluate_model_directory(request_of(), tmp_path / "eval_best_model")
    drawn = []
    second = evaluate_model_directory(
        request_of("final_model"), tmp_path / "eval_final_model", draw=lambda _, path: drawn.append(path) or path / "p"
    )
    assert drawn == [tmp_path / "eval_final_model"]
    assert second.messages[0].startswith(f"{tmp_path / 'final_model'} has the weights of an earlier evaluation")
    assert second.written[-1].name == "p"
    assert second.summary == first.summary.with_values(path=str(tmp_path / "final_model"))
    assert list(second.summary.to_dict()) == list(first.summary.to_dict())


def test_progress_begins_at_0_grows_and_ends_at_1(request_of, tmp_path):
    shares = []
    evaluate_model_directory(request_of(), tmp_path / "out", progress=shares.append)
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_results_that_lack_a_new_context_are_not_reused(request_of, tmp_path, monkeypatch):
    evaluate_model_directory(request_of(), tmp_path / "out")
    extra = dataclasses.replace(CONTEXTS["reset"], name="extra", key="extra", is_required=False)
    monkeypatch.setitem(CONTEXTS, "extra", extra)
    monkeypatch.setitem(SCORING, "extra", SCORING["reset"])
    result = evaluate_model_directory(request_of(), tmp_path / "out")
    assert result.summary.perplexity("extra", 5) == result.summary.perplexity("reset", 5)
    assert evaluate_model_directory(request_of(), tmp_path / "out").written == ()


def test_a_directory_without_weights_says_what_to_do(tmp_path):
    for name, content, hint in (
        ("none", None, "config.json and model.safetensors"),
        ("run", "metadata.json", "has no models yet"),
        ("checkpoint_000", "summary.json", "--keep-weights"),
    ):
        if content is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / content).write_text("{}")
        with pytest.raises(UsageError) as caught:
            find_model_directory(tmp_path / name)
        assert hint in caught.value.hint
    (tmp_path / "checkpoint_000" / "model").mkdir()
    assert find_model_directory(tmp_path / "checkpoint_000") == tmp_path / "checkpoint_000" / "model"


def test_the_models_of_a_run_are_named_where_one_was_expected(tmp_path):
    run = tmp_path / "run"
    (run / "final_model").mkdir(parents=True)
    (run / "metadata.json").write_text("{}")
    for path, problem in ((run, "is a run, not a model"), (run / "best_model", "does not exist")):
        with pytest.raises(UsageError, match=problem) as caught:
            find_model_directory(path)
        assert caught.value.hint == f"its models: {run / 'final_model'}"


@pytest.fixture
def run(tmp_path):
    """Two evaluations that kept weights, the second without results; one without weights; a best model."""
    for index, names in ((0, ["model", "summary.json", "chunk_eval.json"]), (1, ["model"]), (7, [])):
        (tmp_path / f"checkpoint_{index:03d}").mkdir()
        for name in names:
            (tmp_path / f"checkpoint_{index:03d}" / name).mkdir()
    (tmp_path / "checkpoint_001" / "model" / "config.json").write_text('{"step": 10, "tokens_seen": 400}')
    (tmp_path / "best_model").mkdir()
    return RunDirectory(tmp_path)


def test_missing_evaluations_use_the_protocol_of_the_run_and_models_the_full_one(run):
    config = build_config({"train": {"window": 16, "batch_size": 2, "max_steps": 10}, "evaluation": {"max_length": 80}})
    (along, target), (best, best_target) = missing_evaluations(run, config, "cpu")
    assert (along.path, target) == (run.checkpoint(1) / "model", run.checkpoint(1))
    assert (along.protocol, along.window) == (config.evaluation, 16)
    assert along.facts == {
        "checkpoint_idx": 1, "step": 10, "training_loss": None, "tokens_seen": 400,
    }  # fmt: skip
    assert (best.path, best.protocol, best.window, best.device) == (run.best_model, None, None, "cpu")
    assert best_target == run.path / "eval_best_model"
    assert best.facts == {}


def test_summaries_that_the_list_lacks_are_added_in_order(run):
    shutil.rmtree(run.checkpoint(0) / "summary.json")
    for index in (0, 1, 7):
        Summary({"checkpoint_idx": index, "step": index}).write(run.checkpoint(index) / "summary.json")
    Summary.write_all(run.summaries, [Summary({"checkpoint_idx": 1, "step": 1, "kept": True})])
    complete_summaries(run)
    assert json.loads(run.summaries.read_text()) == [
        {"checkpoint_idx": 0, "step": 0}, {"checkpoint_idx": 1, "step": 1, "kept": True},
        {"checkpoint_idx": 7, "step": 7},
    ]  # fmt: skip
    before = run.summaries.stat().st_ino
    complete_summaries(run)
    assert run.summaries.stat().st_ino == before, "nothing was missing, so nothing is written"
