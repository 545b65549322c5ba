"""`tttkit diagnose`: cost first, files, table, the report's section, and bad requests."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.conftest import tttkit

SMALL = ("--num-sequences", 2, "--max-length", 80, "--device", "cpu")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_a_model_is_diagnosed_and_the_report_shows_it(copy):
    result = tttkit("diagnose", copy / "best_model", *SMALL)
    assert result.code == 0, result.err
    assert "of memory beyond the weights" in result.err.splitlines()[0]
    target = copy / "diagnose_best_model"
    assert (target / "diagnose.png").stat().st_size > 0
    assert json.loads((target / "diagnose.json").read_text())["max_length"] == 80
    assert "5 x W" in result.out
    assert "effective memory" in result.out
    assert "key tokens: no evaluator with full attention was named" in result.err
    assert "diagnosed before" in tttkit("diagnose", copy / "best_model", *SMALL).err
    assert tttkit("report", copy).code == 0
    page = (copy / "report.html").read_text()
    assert "Why: state, memory, key tokens" in page
    assert "data:image/png;base64," in page
    assert "## Why: state, memory, key tokens" in (copy / "CURRICULUM_RESULTS.md").read_text()


def test_models_are_diagnosed_side_by_side_as_json(copy, tmp_path):
    models = (copy / "best_model", copy / "final_model")
    result = tttkit("diagnose", *models, *SMALL, "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    written = [json.loads((tmp_path / "out" / path.name / "diagnose.json").read_text()) for path in models]
    assert json.loads(result.out) == written


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--max-length", 8), 2, "--max-length must be at least W = 16, got 8"),
        (("--num-sequences", 10_000), 2, "disjoint ones"),
        (("--evaluator", "missing"), 2, "missing"),
        (("--data", "missing"), 2, "missing"),
    ],
)
def test_a_bad_request_is_one_line(copy, arguments, code, said):
    result = tttkit("diagnose", copy / "best_model", *SMALL, *arguments)
    assert said in result.error
    assert result.code == code
    assert not (copy / "diagnose_best_model").exists()


def test_the_options_say_what_is_read_and_the_evaluator_is_the_first_model_with_full_attention(
    copy, tmp_path, monkeypatch
):
    from tttkit_cli import diagnose

    torch = pytest.importorskip("torch")
    from tests.models.small import small_model
    from tttkit.models import save_model

    vocab_size = json.loads((copy / "best_model" / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    save_model(
        small_model(vocab_size=vocab_size, architecture="transformer"), copy / "attention", metadata={"window": 16}
    )
    result = tttkit("diagnose", copy / "best_model", copy / "attention", "--num-sequences", 2, "--max-length", 64,
                    "--window", 32, "--split", "train", "--device", "cpu", "--out", tmp_path, "--json")  # fmt: skip
    assert result.code == 0, result.err
    for values in json.loads(result.out):
        assert (values["window"], values["max_length"], values["split"]) == (32, 64, "train")
        assert values["evaluator"]["path"] == str(copy / "attention")
        assert values["reference_split"] == "the evaluated split"
    assert diagnose._first_with_full_attention([]) is None


def test_all_requests_are_checked_before_the_first_model_is_diagnosed(copy):
    result = tttkit("diagnose", copy / "best_model", copy / "missing", *SMALL)
    assert "missing does not exist" in result.error
    assert result.code == 2
    assert not (copy / "diagnose_best_model").exists()
