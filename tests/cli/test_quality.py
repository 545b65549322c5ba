"""`tttkit quality`: cost first, files, tables, the page, and bad requests."""

from __future__ import annotations

import html
import json
import shutil

import pytest

from tests.cli.conftest import tttkit
from tttkit.quality.mauve import obstacle

SMALL = ("--num-prompts", 2, "--max-tokens", 12, "--prompt-length", 16, "--device", "cpu")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_models_continue_the_same_prompts_side_by_side(copy, tmp_path):
    models = (copy / "best_model", copy / "final_model")
    out = tmp_path / "out"
    result = tttkit("quality", *models, *SMALL, "--judge", models[1], "--out", out)
    assert result.code == 0, result.err
    assert "of memory beyond the weights" in result.err.splitlines()[0]
    assert "rep-2" in result.out
    assert "difference from best_model, paired by prompt; perplexity as a ratio" in result.out
    assert "minus" not in result.out
    assert "MAUVE" not in result.out, "a column without figures"
    reason = f"MAUVE: {obstacle(2, has_judge=True)}"
    assert f"best_model, {reason}" in result.err
    assert "real text" in result.out
    page = (out / "quality.html").read_text()
    assert "Prompt 2" in page
    assert f"<li>{html.escape(reason)}</li>" in page
    assert page.count("<h4>") == 2 * (1 + 2 * 2)
    assert page.count("max-height:20rem;overflow-y:auto") == 2 * (1 + 1 + 2 * 2), "a text of empty lines scrolls"
    again = tttkit("quality", *models, *SMALL, "--judge", models[1], "--out", out, "--json")
    assert again.err.count("measured before") == 2
    written = [json.loads((out / path.name / "quality.json").read_text()) for path in models]
    assert json.loads(again.out)["models"] == written
    assert len(json.loads(again.out)["differences"]) == 4


def test_the_report_shows_what_the_model_writes(copy):
    assert tttkit("quality", copy / "best_model", *SMALL).code == 0
    assert tttkit("report", copy).code == 0
    assert "What the models write" in (copy / "report.html").read_text()
    assert "## What the models write" in (copy / "CURRICULUM_RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--prompt-length", 10_000_000), 65, "tokens in the split, got"),
        (("--judge", "missing"), 2, "missing"),
        (("--data", "missing"), 2, "missing"),
    ],
)
def test_a_bad_request_is_one_line(copy, arguments, code, said):
    result = tttkit("quality", copy / "best_model", *SMALL, *arguments)
    assert said in result.error
    assert result.code == code
    assert not (copy / "quality_best_model").exists()


def test_the_options_say_what_is_written(copy, tmp_path):
    result = tttkit("quality", copy / "best_model", "--num-prompts", 2, "--max-tokens", 13, "--window", 8, "--seed", 3,
                    "--split", "train", "--device", "cpu", "--out", tmp_path, "--json")  # fmt: skip
    assert result.code == 0, result.err
    (values,) = json.loads(result.out)["models"]
    said = {name: values[name] for name in ("num_prompts", "max_tokens", "window", "seed", "split", "lengths")}
    assert said == {"num_prompts": 2, "max_tokens": 13, "window": 8, "seed": 3, "split": "train",
                    "lengths": [8, 40, 160]}  # fmt: skip
    assert [cell["length"] for cell in values["cells"]] == [8, 8, 40, 40, 160, 160, 160]


def test_all_requests_are_checked_before_the_first_model_is_measured(copy):
    result = tttkit("quality", copy / "best_model", copy / "missing", *SMALL)
    assert "missing does not exist" in result.error
    assert result.code == 2
    assert not (copy / "quality_best_model").exists()
