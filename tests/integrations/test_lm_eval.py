"""The `hf` model of lm-eval runs on an exported model: its word perplexity of a local task equals ours."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.models.small import small_model
from tttkit.evaluate import token_nll
from tttkit.integrations.export import export_to_hugging_face
from tttkit.models import load_model, save_model

lm_eval = pytest.importorskip("lm_eval", reason="a development check only; nothing of tttkit needs it")
pytestmark = pytest.mark.filterwarnings("default")

WORDS = "the cat sat on a mat while rain fell and she read an old book about ships lost far from home".split()
TASK = """
task: own_words
dataset_path: json
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
"""


@pytest.mark.parametrize("architecture", ["ttt", "transformer"])
@pytest.mark.parametrize("max_length", [4096, 64])
def test_word_perplexity_equals_ours(tmp_path, tiny_data, monkeypatch, architecture, max_length):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ours = tmp_path / "ours"
    model = small_model(vocab_size=300, architecture=architecture)
    save_model(model, ours, metadata={"window": 16, "eos_token_id": 0})
    (ours / "tokenizer.json").write_bytes((tiny_data / "tokenizer.json").read_bytes())
    export_to_hugging_face(ours, tmp_path / "exported")
    texts, ids = documents(tiny_data, multiple_of=64)
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "own_words.yaml").write_text(TASK.format(path=tmp_path / "texts.jsonl"))

    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    options = f"pretrained={tmp_path / 'exported'},trust_remote_code=True,max_length={max_length}"
    results = lm_eval.simple_evaluate(
        model="hf", model_args=options, tasks=["own_words"], task_manager=manager, device="cpu", batch_size=1,
        bootstrap_iters=0,
    )["results"]["own_words"]  # fmt: skip

    context = {"context": "full"} if max_length == 4096 else {"context": "reset", "window": max_length}
    total = sum(token_nll(load_model(ours), np.array([[0, *row]]), **context).sum(dtype=np.float64) for row in ids)
    num_words, num_bytes = sum(len(text.split()) for text in texts), sum(len(text.encode()) for text in texts)
    assert results["word_perplexity,none"] == pytest.approx(math.exp(total / num_words), rel=1e-3)
    assert results["bits_per_byte,none"] == pytest.approx(total / num_bytes / math.log(2), rel=1e-3)


def documents(data, multiple_of):
    """Return two texts and their ids, whose number is a multiple, so that the last window of lm-eval is a whole one."""
    from tokenizers import Tokenizer

    tokenizer, generator = Tokenizer.from_file(str(data / "tokenizer.json")), np.random.default_rng(0)
    texts, ids = [], []
    while len(texts) < 2:
        words = list(generator.choice(WORDS, 400))
        while len(tokenizer.encode(" ".join(words)).ids) % multiple_of and words:
            words.pop()
        if len(words) > 100:
            texts.append(" ".join(words))
            ids.append(tokenizer.encode(texts[-1]).ids)
    return texts, ids
