"""What a judge says: the NLL of exactly the last tokens, and its logits after them."""

from __future__ import annotations

import numpy as np
import torch

from tests.models.small import VOCAB_SIZE, small_model
from tttkit.quality.judge import features, judged_nll


def test_the_nll_is_that_of_the_last_tokens_only():
    judge = small_model().eval()
    texts = np.random.default_rng(0).integers(0, VOCAB_SIZE, (3, 20))
    with torch.no_grad():
        nll = judge.score(torch.from_numpy(texts), 5).numpy()
    np.testing.assert_allclose(judged_nll(judge, texts, 5, "never"), nll.mean(axis=1), rtol=1e-5)


def test_the_features_are_the_logits_after_each_text_however_many_are_read_at_once():
    judge = small_model().eval()
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, (5, 8))
    with torch.no_grad():
        logits, _ = judge.next_logits(torch.from_numpy(ids), judge.initial_state(5))
        np.testing.assert_allclose(features(judge, ids, 2), logits.numpy(), rtol=1e-4, atol=1e-5)
