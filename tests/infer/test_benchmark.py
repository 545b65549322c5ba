"""Decoding is measured after the whole context, for every model and context."""

from __future__ import annotations

import torch

from tests.models.small import small_model
from tttkit import device
from tttkit.infer.benchmark import choose_threads_for_decoding, measure_decoding


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


def test_the_number_of_threads_is_chosen_by_decoding(monkeypatch):
    """OMP_NUM_THREADS wins; otherwise torch uses the chosen number afterwards."""
    before, steps = torch.get_num_threads(), []
    monkeypatch.setattr(device, "available_cores", lambda: 2)
    monkeypatch.setattr(device, "_MAX_ROUNDS", 1)
    monkeypatch.setattr(
        device, "_seconds", lambda step, _clock: (step(), steps.append(1), float(torch.get_num_threads()))[2]
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads_for_decoding(small_model()) is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    try:
        choice = choose_threads_for_decoding(small_model(), num_tokens=3)
        assert (choice.num_threads, torch.get_num_threads(), len(steps)) == (1, 1, 3)
        assert choice.tokens_per_second == {1: 3.0, 2: 1.5}
    finally:
        torch.set_num_threads(before)
