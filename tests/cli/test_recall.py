"""`tttkit recall`: files, the same figures for the same seed, and bad requests."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.conftest import tttkit

SMALL = ("--num-examples", 4, "--distance", 0, "--distance", 32, "--device", "cpu")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_models_are_measured_side_by_side_and_again_with_the_same_figures(copy, tmp_path):
    models = (copy / "best_model", copy / "final_model")
    result = tttkit("recall", *models, *SMALL, "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "recall.png").stat().st_size > 0
    written = [json.loads((tmp_path / "out" / path.name / "recall.json").read_text()) for path in models]
    assert json.loads(result.out) == written
    assert [row["distance"] for row in written[0]["rows"]] == [0, 32]
    assert (written[0]["seed"], written[0]["num_examples"], len(written[0]["drops"])) == (0, 4, 4)
    assert tttkit("recall", models[0], *SMALL).code == 0
    assert json.loads((copy / "recall_best_model" / "recall.json").read_text())["drops"] == written[0]["drops"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--distance", 10_000_000), 65, "tokens in the split, got"),
        (("--split", "nothing"), 65, "nothing"),
        (("--data", "missing"), 2, "missing"),
        (("--out", __file__), 2, "test_recall.py is a file"),
    ],
)
def test_a_bad_request_is_one_line(copy, arguments, code, said):
    result = tttkit("recall", copy / "best_model", *SMALL, *arguments)
    assert said in result.error
    assert result.code == code
    assert not (copy / "recall_best_model").exists()


@pytest.fixture(scope="module")
def trained_on_mqar(tmp_path_factory):
    run = tmp_path_factory.mktemp("mqar") / "run"
    small = ("model.hidden_size=16", "model.num_hidden_layers=1", "model.num_attention_heads=1", "train.batch_size=2",
             "model.intermediate_size=16", "train.num_threads=1")  # fmt: skip
    settings = [part for each in small for part in ("--set", each)]
    result = tttkit("train", "--preset", "mqar", "--max-steps", 2, "--device", "cpu", "--out", run, *settings)
    assert result.code == 0, result.err
    return run


SHORT = ("--task", "mqar", "--length", 64, "--length", 128, "--items", 4, "--num-examples", 4, "--device", "cpu")


def test_a_model_trained_on_a_task_is_measured_on_it_and_a_second_call_measures_nothing(trained_on_mqar):
    model = trained_on_mqar / "final_model"
    result = tttkit("recall", model, *SHORT, "--context", "full", "--context", "reset", "--json")
    assert result.code == 0, result.err
    (printed,) = json.loads(result.out)
    directory = trained_on_mqar / "recall_mqar_final_model"
    assert json.loads((directory / "recall.json").read_text()) == printed
    places = [(row["length"], row["size"], row["context"]) for row in printed["rows"]]
    assert places == [(64, 4, "full"), (64, 4, "reset"), (128, 4, "full"), (128, 4, "reset")]
    assert all(0 <= row["exact"] <= row["accuracy"] <= 1 for row in printed["rows"])
    again = tttkit("recall", model, *SHORT, "--context", "full", "--context", "reset")
    assert "measured before, same weights, data and settings" in again.err
    assert [entry.name for entry in directory.iterdir() if entry.name.startswith(".nll")] == []
    report = tttkit("report", trained_on_mqar)
    assert report.code == 0, report.err
    assert "Recall: what the models remember" in (trained_on_mqar / "report.html").read_text()
    assert "final_model, mqar, n = 4" in (trained_on_mqar / "CURRICULUM_RESULTS.md").read_text()


def test_what_does_not_fit_is_named_in_one_line_in_the_file_and_in_the_report(trained_on_mqar, tmp_path):
    run = shutil.copytree(trained_on_mqar, tmp_path / "run", ignore=shutil.ignore_patterns("recall_*"))
    sizes = ("--items", 16, "--items", 64)
    both = tttkit("recall", run / "best_model", run / "final_model", *SHORT, *sizes)
    assert both.code == 0, both.err
    reasons = ("an example needs at least 66 tokens", "an example needs at least 258 tokens")
    said = f"left out: 16 items at 64 tokens ({reasons[0]}); 64 items at 64 and 128 tokens ({reasons[1]})"
    assert [line for line in both.err.splitlines() if "left out" in line] == [f"best_model and final_model, {said}"]
    written = json.loads((run / "recall_mqar_final_model" / "recall.json").read_text())
    assert written["left_out"] == dict(
        zip(("16 items at 64 tokens", "64 items at 64 and 128 tokens"), reasons, strict=True)
    )
    alone = tttkit("recall", run / "final_model", *SHORT)
    assert "left out" not in alone.err
    again = tttkit("recall", run / "final_model", *SHORT, *sizes)
    assert f"final_model, {said}" in again.err
    assert tttkit("report", run).code == 0
    assert f"16 items at 64 tokens: {reasons[0]}" in (run / "report.html").read_text()
    assert f"Left out, 16 items at 64 tokens: {reasons[0]}." in (run / "CURRICULUM_RESULTS.md").read_text()


def test_models_are_compared_with_the_first_paired_by_example(trained_on_mqar, tmp_path):
    models = (trained_on_mqar / "final_model", trained_on_mqar / "best_model")
    result = tttkit("recall", *models, *SHORT, "--out", tmp_path)
    assert result.code == 0, result.err
    assert "difference from final_model, paired by example" in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "mqr"), "unknown task `mqr`"),
        (("--task", "passkey", "--items", 4), "passkey has no --items"),
        (("--task", "copy", "--items", 4), "copy has no --items"),
        (("--task", "ruler", "--context", "sw"), "ruler has no --context"),
        (("--task", "ruler", "--distance", 4), "ruler has no --distance"),
        (("--length", 400), "second-copy has no --length"),
        (("--task", "mqar", "--context", "dynamic"), "unknown context `dynamic`"),
        (("--task", "mqar", "--length", 17), "mqar needs examples of at least 18 tokens, got 17"),
        (("--text", "a.txt", "--data", "b"), "--text takes the place of --data"),
    ],
)
def test_a_bad_task_is_one_line(trained_on_mqar, arguments, said):
    result = tttkit("recall", trained_on_mqar / "final_model", *arguments)
    assert said in result.error
    assert result.code == 2


def test_data_that_cannot_write_digits_is_refused(trained_on_mqar):
    result = tttkit("recall", trained_on_mqar / "final_model", "--task", "passkey", "--num-examples", 2)
    assert "the tokenizer of the data cannot write" in result.error
    assert result.code == 65


def test_a_run_is_evaluated_with_recall(copy):
    result = tttkit("eval", "run", copy, "--recall", "--device", "cpu")
    assert result.code == 0, result.err
    assert (copy / "recall_best_model" / "recall.json").exists()
    assert (copy / "recall_final_model" / "recall.json").exists()


def test_a_run_that_trains_on_a_task_is_measured_by_the_answers_of_its_last_model_only(trained_on_mqar, tmp_path):
    run = shutil.copytree(trained_on_mqar, tmp_path / "run", ignore=shutil.ignore_patterns("recall_*"))
    before = {path.name for path in run.iterdir()}
    result = tttkit("eval", "run", run, "--recall", "--device", "cpu")
    assert result.code == 0, result.err
    assert f"{run} trains on mqar: only its answers are measured" in result.err
    assert {path.name for path in run.iterdir()} - before == {"recall_mqar_final_model"}
    assert "mqar: share of answers given" in result.out
    (printed,) = json.loads(tttkit("eval", "run", run, "--recall", "--device", "cpu", "--json").out)
    assert printed == json.loads((run / "recall_mqar_final_model" / "recall.json").read_text())
    shutil.rmtree(run / "final_model")
    result = tttkit("eval", "run", run, "--recall")
    assert result.code == 2
    assert f"error: {run} has no final_model yet" in result.err


@pytest.mark.parametrize(("task", "measured"), [("passkey", "passkey"), (None, "second-copy")])
def test_a_run_on_text_is_measured_on_its_task_or_second_copy(trained_on_mqar, monkeypatch, task, measured):
    from tttkit.run.directory import RunDirectory
    from tttkit_cli import eval_run

    monkeypatch.setattr(eval_run, "measure_models", lambda requests, settings: (requests, settings))
    requests, settings = eval_run._recall(RunDirectory(trained_on_mqar), "cpu", task)
    assert settings.task == measured
    assert [request.path.name for request in requests] == ["best_model", "final_model"]


def test_models_that_read_other_examples_are_not_compared(capsys):
    from tttkit.results.recall import Recall
    from tttkit_cli.recall_models import show_recall

    row = {"distance": 0, "first": 1.0, "second": 1.0, "drop": 0.0, "low": 0.0, "high": 0.0}
    one = Recall({"task": "second-copy", "data_fingerprint": "x", "rows": [row], "drops": [[0.0], [0.0]]})
    show_recall([("a", one), ("b", Recall({**one.values, "data_fingerprint": "y"}))], json_output=False)
    printed = capsys.readouterr()
    assert "b cannot be compared with a: they have not read the same examples" in printed.err
    assert "difference from" not in printed.out
    show_recall([("a", one), ("b", one)], json_output=False)
    assert "difference from a, paired by example" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["mqar", "copy"])
def test_a_model_of_text_is_told_that_it_was_not_trained_on_the_task(trained_on_mqar, copy, task):
    from tttkit.recall.answers import about_tokens

    text = f"{copy / 'best_model'} has a tokenizer for text, so it was not trained on {task}"
    assert about_tokens(copy / "best_model", task).startswith(text)
    assert about_tokens(trained_on_mqar / "final_model", task) is None


@pytest.mark.parametrize(("task", "length"), [("passkey", 80), ("ruler", 160)])
def test_questions_about_a_text_are_measured_compared_drawn_and_reported(copy, task, length):
    arguments = ("--task", task, "--length", length, "--length", 2 * length, "--num-examples", 2, "--device", "cpu")
    result = tttkit("recall", copy / "best_model", copy / "final_model", *arguments)
    assert result.code == 0, result.err
    assert "difference from best_model, paired by example" in result.out
    directory = copy / f"recall_{task}_best_model"
    assert (directory / "recall.png").stat().st_size > 0
    written = json.loads((directory / "recall.json").read_text())
    assert (written["task"], written["longest"], written["schema_version"]) == (task, 2 * length, 4)
    again = tttkit("recall", copy / "best_model", *arguments)
    assert "measured before, same weights, data and settings" in again.err
    assert tttkit("report", copy).code == 0
    assert f"best_model, {task}, n = 2" in (copy / "CURRICULUM_RESULTS.md").read_text()
    assert f"best_model, {task}, n = 2" in (copy / "report.html").read_text()


def test_the_options_say_what_is_read(copy, monkeypatch):
    from tttkit_cli import recall

    asked = []
    monkeypatch.setattr(recall, "measure_models", lambda requests, settings, **more: asked.append((requests, settings)))
    monkeypatch.setattr(recall, "show_recall", lambda *_, **__: None)
    arguments = (
        "--window",
        8,
        "--seed",
        3,
        "--split",
        "train",
        "--dtype",
        "bf16",
        "--bos",
        "always",
        "--num-examples",
        5,
    )
    assert tttkit("recall", copy / "best_model", *arguments).code == 0
    (((request,), settings),) = asked
    assert (request.window, request.split, request.dtype, request.bos) == (8, "train", "bf16", "always")
    assert (settings.seed, settings.num_examples) == (3, 5)


def test_a_directory_that_is_no_model_is_named_with_what_a_model_has(copy):
    result = tttkit("recall", copy / "state", *SMALL)
    assert "config.json hint: a model directory holds config.json and model.safetensors" in result.error
    assert result.code == 65


def test_all_requests_are_checked_before_the_first_model_is_measured(copy):
    result = tttkit("recall", copy / "best_model", copy / "missing", *SMALL)
    assert "missing does not exist" in result.error
    assert result.code == 2
    assert not (copy / "recall_best_model").exists()


def test_differences_are_shown_with_both_intervals(capsys):
    from tttkit.results.recall import Recall
    from tttkit_cli.recall_models import show_recall

    row = {"distance": 0, "first": 1.0, "second": 1.0, "drop": 0.0, "low": 0.0, "high": 0.0}
    documents = [0] * 10 + [1] * 10
    drops = [[1.0 if index % 2 else 0.0] for index in range(20)]
    first = Recall({"task": "second-copy", "rows": [row], "drops": [[0.0]] * 20, "documents": documents})
    show_recall([("a", first), ("b", Recall({**first.values, "drops": drops}))], json_output=False)
    printed = capsys.readouterr().out.splitlines()
    head, line = (next(each for each in printed if text in each) for text in ("difference ┃", "distance 0"))
    assert "over documents" in head
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[2] == "+0.500"
    assert cells[4] == "+0.500 … +0.500", "both documents have the same mean"
    assert cells[3] != cells[4]
