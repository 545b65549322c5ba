"""What a diagnosis costs, before it starts."""

from __future__ import annotations

import dataclasses

import pytest

from tests.models.small import VOCAB_SIZE, small_model
from tttkit.diagnose.effective_memory import grid_tokens
from tttkit.diagnose.plan import PARTS, Sizes, plan

SIZES = Sizes(window=8, max_length=32, num_sequences=2, stride=4, positions=[8, 16], num_windows=20)


def test_the_parts_that_run_have_a_cost_and_their_shares_follow_each_other():
    planned = plan(small_model(), None, SIZES)
    assert [name for name in PARTS if planned.seconds[name] == 0] == ["key_tokens"]
    assert planned.total_seconds == pytest.approx(sum(planned.seconds.values()))
    seen = []
    for part in PARTS[:-1]:
        tick = planned.share(part, seen.append)
        tick(0.0)
        tick(1.0)
    assert seen[0] == 0.0
    assert seen[-1] == pytest.approx(1.0)
    assert seen == pytest.approx(sorted(seen)), "the bar never goes back"


def test_the_memory_is_that_of_the_larger_reader():
    model, evaluator = small_model(), small_model(architecture="transformer", hidden_size=64, num_attention_heads=2)
    alone, together = (plan(model, each, SIZES) for each in (None, evaluator))
    more = SIZES.num_sequences * SIZES.max_length * (evaluator.bytes_per_token() - model.bytes_per_token())
    assert more > 0
    assert together.num_bytes == alone.num_bytes + more
    assert together.seconds["key_tokens"] > 0


def test_the_memory_holds_predictions_and_a_batch_of_training_states_with_their_copies(monkeypatch):
    monkeypatch.setattr("tttkit.diagnose.plan._pass_bytes", lambda model, sizes: 0)
    model = small_model()
    one, predictions = model.state_bytes(1), 4 * 4 * SIZES.num_sequences * VOCAB_SIZE
    for rows in (1, 20):
        planned = plan(model, None, dataclasses.replace(SIZES, num_windows=rows))
        assert planned.num_bytes == predictions + (6 + 3 * rows) * one


def test_every_part_reads_as_many_tokens_as_its_cost_says(monkeypatch):
    monkeypatch.setattr("tttkit.diagnose.plan._seconds_per_token", lambda model, window: 1.0)
    monkeypatch.setattr("tttkit.diagnose.plan._seconds_per_segment", lambda model, stride: 1.0)
    model = small_model()
    seconds = plan(model, None, SIZES).seconds
    per_text = grid_tokens([8, 16], model.mini_batch_size)
    assert seconds == {"nll": 2 * 32, "reference": 20 * 8, "state": 2 * 8, "memory": 2 * per_text, "key_tokens": 0}


def test_choosing_key_tokens_reads_every_text_once_as_a_whole_and_four_times_in_windows(monkeypatch):
    monkeypatch.setattr("tttkit.diagnose.plan._seconds_per_token", lambda model, window: 1.0)
    assert plan(small_model(), small_model(), SIZES).seconds["key_tokens"] == 2 * 32 * (1 + 4)
