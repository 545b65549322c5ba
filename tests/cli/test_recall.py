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
    ],
)
def test_a_bad_request_is_one_line(copy, arguments, code, said):
    result = tttkit("recall", copy / "best_model", *SMALL, *arguments)
    assert said in result.error
    assert result.code == code
    assert not (copy / "recall_best_model").exists()


@pytest.fixture(scope="module")
def task_run(tmp_path_factory):
    """A run of a few steps on mqar."""
    out = tmp_path_factory.mktemp("mqar") / "run"
    small = (
        "model.hidden_size=16",
        "model.num_hidden_layers=1",
        "model.num_attention_heads=2",
        "model.intermediate_size=16",
    )
    settings = [
        part for each in (*small, "data.source=task:mqar:64:1000", "train.batch_size=4") for part in ("--set", each)
    ]
    few = ("--max-steps", 4, "--num-eval-checkpoints", 1, "--eval-num-sequences", 2, "--threads", 1, "--device", "cpu")
    result = tttkit("train", "--preset", "mqar", *settings, *few, "--out", out, "--plain")
    assert result.code == 0, result.err
    return out


def test_a_task_is_asked_by_length_beside_another_model(task_run, tmp_path):
    models = (task_run / "best_model", task_run / "final_model")
    options = ("--task", "mqar", "--length", 64, "--length", 128, "--num-examples", 8, "--device", "cpu")
    result = tttkit("recall", *models, *options, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "mqar: share of right answers" in result.out
    assert "+0.000 [+0.000, +0.000]" in result.out, "the same weights differ by nothing"
    written = json.loads((tmp_path / "out" / "final_model" / "recall.json").read_text())
    assert (written["task"], written["seed"], sorted(written["scores"])) == ("mqar", 0, ["128", "64"])
    assert (tmp_path / "out" / "recall.png").stat().st_size > 0
    assert tttkit("recall", models[0], *options).code == 0
    assert (task_run / "recall_mqar_best_model" / "recall.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "nothing"), "unknown task `nothing`"),
        (("--task", "copy"), "--distance has no meaning for copy"),
        (("--length", 64), "--length has no meaning for second-copy"),
    ],
)
def test_options_of_another_task_are_refused(copy, arguments, said):
    result = tttkit("recall", copy / "best_model", *SMALL, *arguments)
    assert (result.code, said in result.error) == (2, True)


def test_a_model_of_text_does_not_know_the_words_of_the_tasks(copy):
    result = tttkit("recall", copy / "best_model", "--task", "mqar")
    assert (result.code, "was not trained on the words of the synthetic tasks" in result.error) == (2, True)
