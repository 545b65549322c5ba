"""Per-token NLL of tiny models of transformers, against recorded values, in every context and in segments."""

from __future__ import annotations

import numpy as np
import pytest

from tttkit.evaluate import token_nll
from tttkit.models import load_scoring_model

TOLERANCE = {"gpt2": 1e-4, "llama": 1e-4, "mamba2": 1e-4, "qwen3_next": 2e-4, "recurrent_gemma": 1e-4, "rwkv": 1e-4}
WINDOW = 32
CAN_CARRY = {"gpt2", "llama", "mamba2", "qwen3_next"}


@pytest.mark.parametrize("family", TOLERANCE)
def test_recorded_nll_of_every_context(shared, family):
    directory = shared / "golden" / "ops" / "models" / family
    model, expected = load_scoring_model(directory), np.load(directory / "nll.npz")
    for context in ("full", "sw", "sw_aligned", "reset"):
        nll = token_nll(model, expected["input_ids"], context, window=WINDOW, bos="never")
        np.testing.assert_allclose(nll, expected[context], atol=TOLERANCE[family], err_msg=context)
    assert model.can_carry == (family in CAN_CARRY)
    if model.can_carry:
        for segment in (1, 37):
            nll = token_nll(model, expected["input_ids"], "full", window=WINDOW, segment=segment)
            np.testing.assert_allclose(nll, expected["full"], atol=TOLERANCE[family])
    else:
        assert "one pass" in model.notes[0]
