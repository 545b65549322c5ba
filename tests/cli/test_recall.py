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
