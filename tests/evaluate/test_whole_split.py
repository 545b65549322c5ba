"""Every token of a split is scored once; NLL by slot of the inner mini-batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.small import small_model
from tttkit.errors import DataError
from tttkit.evaluate import whole_split
from tttkit.evaluate.whole_split import nll_by_slot, score_split


@pytest.mark.parametrize("block_tokens", [1 << 16, 100, 1])
def test_every_token_but_the_first_is_scored_once(text_model, validation_split, monkeypatch, block_tokens):
    """The blocks hold the whole split, several windows, or one window because they are shorter than a window."""
    monkeypatch.setattr(whole_split, "_BLOCK_TOKENS", block_tokens)
    shares = []
    score = score_split(text_model, validation_split, stride=48, progress=shares.append)
    tokens = torch.from_numpy(validation_split.tokens(0, validation_split.num_tokens).astype(np.int64))
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(tokens) - 1, 48):
            piece = tokens[start : start + 49]
            logits = text_model(piece[None, :-1])[0]
            total += float(torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum"))
    assert score.num_tokens == validation_split.num_tokens - 1
    assert score.nll_sum == pytest.approx(total, rel=1e-5)
    assert score.token_ppl == pytest.approx(np.exp(total / score.num_tokens), rel=1e-4)
    assert (score.num_words, score.num_bytes) == (validation_split.num_words, validation_split.num_bytes)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_a_model_of_another_vocabulary_is_refused(validation_split):
    with pytest.raises(DataError, match="the data's tokenizer has"):
        score_split(small_model(vocab_size=7), validation_split, stride=16)


def test_nll_by_slot_ignores_the_window():
    nll = np.tile(np.arange(4, dtype=np.float32), (3, 5))
    nll[:, :8] = 99  # within the window
    nll[:, 9] = np.nan
    assert nll_by_slot(nll, 4, 8) == [0.0, 1.0, 2.0, 3.0]
    nll[:, 9::4] = np.nan
    assert nll_by_slot(nll, 4, 8)[1] is None
