"""Questions about a text to a model of transformers, whose cache changes when it reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tttkit.evaluate.nll import token_nll
from tttkit.models import load_scoring_model
from tttkit.recall.questions import ask


def test_the_answer_is_read_from_a_cache_that_the_continuation_has_not_changed(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    model = load_scoring_model(tmp_path / "gpt2")
    random = np.random.default_rng(0)
    prompts, answers = torch.from_numpy(random.integers(0, 50, (3, 20))), random.integers(0, 50, (3, 5)).tolist()
    nll, _ = ask(model, prompts, answers)
    texts = torch.cat([prompts, torch.tensor(answers)], dim=1)
    np.testing.assert_allclose(nll, token_nll(model, texts)[:, -5:].sum(axis=1), rtol=1e-4)
