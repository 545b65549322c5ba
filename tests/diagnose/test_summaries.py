"""Bands of positions hold their own tokens, and of these the key tokens."""

from __future__ import annotations

import numpy as np
import pytest

from tttkit.diagnose.summaries import perplexity_bands


def test_a_band_has_the_tokens_between_its_label_and_the_one_before():
    nll = np.tile(np.repeat(np.float32([1.0, 2.0]), 8), (6, 1))
    keys = np.zeros((6, 16), dtype=bool)
    keys[:, 3] = keys[:, 9] = keys[:, 12] = True
    first, second = perplexity_bands(nll, keys, 8)
    assert [(band["first"], band["last"]) for band in (first, second)] == [(1, 8), (9, 16)]
    assert [(band["tokens"], band["key_tokens"]) for band in (first, second)] == [(48, 6), (48, 12)]
    assert [band["ppl"] for band in (first, second)] == pytest.approx([np.e, np.e**2])
    assert [band["key_ppl"] for band in (first, second)] == pytest.approx([np.e, np.e**2])
    assert "key_ppl" not in perplexity_bands(nll, None, 8)[0]
