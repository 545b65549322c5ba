"""Decoding is measured after the whole context, for every model and context."""

from __future__ import annotations

from tests.models.small import small_model
from tttkit.infer.benchmark import measure_decoding


def test_every_model_and_context_has_a_row():
    models = {"ttt": small_model(), "transformer": small_model(architecture="transformer")}
    rows = measure_decoding(models, [8, 40], num_tokens=3, rounds=2)
    assert [(row.name, row.context) for row in rows] == [
        ("ttt", 8), ("ttt", 40), ("transformer", 8), ("transformer", 40),
    ]  # fmt: skip
    assert all(row.tokens_per_second > 0 and row.prefill_tokens_per_second > 0 for row in rows)
    sizes = {(row.name, row.context): row.state_bytes for row in rows}
    assert sizes["ttt", 8] == sizes["ttt", 40] == 2 * 2 * (2 * 9 * 8) * 4  # layers, delta and pending, heads, float32
    assert sizes["transformer", 40] == 5 * sizes["transformer", 8] == 40 * 2 * 2 * 16 * 4
