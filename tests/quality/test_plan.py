"""What a measurement of quality costs, before it starts."""

from __future__ import annotations

import numpy as np
import torch

from tests.models.small import VOCAB_SIZE, small_model
from tttkit.quality import plan
from tttkit.quality.settings import Settings

TEXTS = np.zeros((3, 60), dtype=np.int64)


def estimate(model, monkeypatch, lengths, max_tokens=20):
    monkeypatch.setattr(plan, "_speed", lambda *_: (1.0, 100.0))
    return plan.estimate(model, TEXTS, Settings(max_tokens=max_tokens), lengths, 16, num_blocks=4)


def test_the_time_is_that_of_all_prompts_and_steps(monkeypatch):
    seconds, _ = estimate(small_model(), monkeypatch, (16, 80))
    assert seconds == 4 * (16 + 100 * 20) + 4 * (80 + 100 * 20)


def test_the_cache_of_full_attention_grows_with_the_text_and_a_state_does_not(monkeypatch):
    for fields, grows in (({"architecture": "transformer"}, (80 + 20) / 16), ({}, 1.0)):
        model = small_model(**fields)
        _, num_bytes = estimate(model, monkeypatch, (16, 80))
        _, state = model.next_logits(torch.zeros((3, 16), dtype=torch.long), model.initial_state(3))
        others = 2048 * model.bytes_per_token() + 3 * 8 * 3 * VOCAB_SIZE
        assert num_bytes == int(state.num_bytes * grows) + others
