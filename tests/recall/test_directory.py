"""The recall of a model directory: what the user is told about the model."""

from __future__ import annotations

import shutil

from tests.models.small import small_model
from tttkit.data.synthetic.vocabulary import VOCAB_SIZE
from tttkit.evaluate.request import EvaluationRequest
from tttkit.models import save_model
from tttkit.recall.directory import RecallSettings, recall_model_directory


def test_a_model_of_text_that_is_measured_on_a_task_is_named(tmp_path, tiny_data):
    save_model(small_model(vocab_size=VOCAB_SIZE), tmp_path / "model", metadata={"window": 16})
    request = EvaluationRequest(path=tmp_path / "model", window=16, device="cpu")
    settings = RecallSettings(task="copy", lengths=[16], num_examples=2)
    assert recall_model_directory(request, tmp_path / "out", settings).messages == ()
    shutil.copy(tiny_data / "tokenizer.json", tmp_path / "model")
    for _ in ("measured", "known before"):
        (message,) = recall_model_directory(request, tmp_path / "out", settings).messages
        assert message.endswith("was not trained on copy: its tokens mean nothing to it")
