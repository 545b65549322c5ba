"""The recall of a model directory: what the user is told about the model."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from tests.models.small import small_model
from tttkit.data.synthetic.vocabulary import VOCAB_SIZE
from tttkit.evaluate.request import EvaluationRequest
from tttkit.models import save_model
from tttkit.recall.directory import RecallSettings, _Questions, recall_model_directory


def test_a_model_of_text_that_is_measured_on_a_task_is_named(tmp_path, tiny_data):
    save_model(small_model(vocab_size=VOCAB_SIZE), tmp_path / "model", metadata={"window": 16})
    request = EvaluationRequest(path=tmp_path / "model", window=16, device="cpu")
    settings = RecallSettings(task="copy", lengths=[16], num_examples=2)
    assert recall_model_directory(request, tmp_path / "out", settings).messages == ()
    shutil.copy(tiny_data / "tokenizer.json", tmp_path / "model")
    for _ in ("measured", "known before"):
        (message,) = recall_model_directory(request, tmp_path / "out", settings).messages
        assert message.endswith("was not trained on copy: its tokens mean nothing to it")


@pytest.mark.parametrize(
    ("task", "settings", "changes"),
    [
        ("second-copy", {"distances": [0, 32]}, {"distances": [0, 40]}),
        ("passkey", {"lengths": [80]}, {"lengths": [96]}),
        ("ruler", {"lengths": [320]}, {"lengths": [330]}),
        ("copy", {"lengths": [16]}, {"lengths": [24]}),
        ("mqar", {"lengths": [32], "sizes": [2]}, {"sizes": [4]}),
        ("mqar", {"lengths": [32], "sizes": [2]}, {"contexts": ("sw",)}),
    ],
)
def test_results_of_another_model_or_of_other_settings_are_not_taken(tmp_path, tiny_data, task, settings, changes):
    """Each call below differs from the one before in one thing, and the last one is known."""
    for seed in (0, 1):
        save_model(small_model(vocab_size=VOCAB_SIZE, seed=seed), tmp_path / f"{seed}", metadata={"window": 16})
    request = EvaluationRequest(path=tmp_path / "0", data=tiny_data, window=16, device="cpu")
    usual = RecallSettings(task=task, num_examples=3, **settings)
    other = dataclasses.replace(usual, **changes)
    fewer, seed = dataclasses.replace(other, num_examples=2), dataclasses.replace(other, num_examples=2, seed=1)
    another = dataclasses.replace(request, path=tmp_path / "1")
    calls = [(request, usual), (request, other), (request, fewer), (request, seed), (another, seed), (another, seed)]
    written = [bool(recall_model_directory(each, tmp_path / "out", how).written) for each, how in calls]
    assert written == [True] * 5 + [False]


@pytest.mark.parametrize(("task", "multiples"), [("passkey", (1, 2, 5, 10, 20, 50, 100)), ("ruler", (1, 2, 5, 10, 20))])
def test_only_pass_keys_are_hidden_in_a_hundred_windows(tmp_path, tiny_data, task, multiples):
    save_model(small_model(vocab_size=VOCAB_SIZE), tmp_path / "model", metadata={"window": 16})
    request = EvaluationRequest(path=tmp_path / "model", data=tiny_data, device="cpu")
    assert _Questions(request, RecallSettings(task=task))._task.lengths == [16 * multiple for multiple in multiples]
