"""Decoding is measured after the whole context, for every model and context."""

from __future__ import annotations

import pytest
import torch

from tests.models.small import small_model
from tttkit import device
from tttkit.config.model import ModelConfig
from tttkit.infer.benchmark import beyond_memory, choose_threads_for_decoding, decoding_bytes, measure_inference


def test_every_model_batch_size_and_context_has_a_row():
    models = {"ttt": small_model(), "transformer": small_model(architecture="transformer")}
    rows = list(measure_inference(models, [8, 40], batch_sizes=[1, 3], num_tokens=3, rounds=2))
    assert [(row.batch_size, row.context, row.name) for row in rows] == [
        (batch_size, context, name) for batch_size in (1, 3) for context in (8, 40) for name in models
    ]
    for row in rows:
        assert row.tokens_per_second == row.batch_size / row.seconds_per_token > 0
        assert row.prefill_tokens_per_second == row.batch_size * row.context / row.first_token_seconds > 0
        assert row.to_dict()["tokens_per_second"] == row.tokens_per_second
    sizes = {(row.name, row.batch_size, row.context): row.state_bytes for row in rows}
    assert (
        sizes["ttt", 1, 8] == sizes["ttt", 1, 40] == 2 * 2 * (2 * 9 * 8) * 4
    )  # layers, delta and pending, heads, float32
    assert sizes["transformer", 1, 40] == 5 * sizes["transformer", 1, 8] == 40 * 2 * 2 * 16 * 4
    assert sizes["transformer", 3, 40] == 3 * sizes["transformer", 1, 40]


def test_each_round_continues_the_same_context():
    """A cache of transformers changes in place, so every round needs its own copy."""
    pytest.importorskip("transformers")
    (gpt2, _) = same_size().values()
    lengths = []
    read = gpt2.next_logits
    gpt2.next_logits = lambda ids, state: lengths.append(state.position + ids.shape[1]) or read(ids, state)
    (row,) = measure_inference({"gpt2": gpt2}, [8], num_tokens=2, rounds=3)
    assert lengths == [8, 9, 10, 9, 10, 9, 10]
    assert row.state_bytes == 8 * 2 * 2 * 16 * 4


def test_a_model_is_left_out_beyond_its_positions():
    pytest.importorskip("transformers")
    models = {"ttt": small_model(), **same_size()}
    rows = measure_inference(models, [40, 60], num_tokens=5, rounds=1)
    names = [(row.context, row.name.split()[0]) for row in rows]
    assert names == [(40, "ttt"), (40, "GPT-2"), (40, "Mamba-2"), (60, "ttt"), (60, "Mamba-2")]


def test_a_model_is_left_out_where_its_states_do_not_fit_beside_those_before_it():
    models = {"ttt": small_model(), "transformer": small_model(architecture="transformer")}
    needed = [decoding_bytes(model, 3, 43) for model in models.values()]
    rows = list(measure_inference(models, [40], batch_sizes=[3], num_tokens=3, rounds=1, free_bytes=sum(needed)))
    assert [row.name for row in rows] == ["ttt", "transformer"]
    free = sum(needed) - 1
    rows = measure_inference(models, [8, 40], batch_sizes=[3], num_tokens=3, rounds=1, free_bytes=free)
    assert [(row.context, row.name) for row in rows] == [(8, "ttt"), (8, "transformer"), (40, "ttt")]
    assert beyond_memory(models, 3, 43, free) == {"transformer": needed[1]}
    assert beyond_memory(models, 3, 43, None) == {}


@pytest.mark.parametrize("kind", ["ttt", "transformer", "GPT-2", "Mamba-2"])
def test_the_memory_that_is_planned_is_that_of_the_state_and_its_copy(kind):
    if kind in ("GPT-2", "Mamba-2"):
        pytest.importorskip("transformers")
        model = next(model for name, model in same_size().items() if name.startswith(kind))
    else:
        model = small_model(architecture=kind)
    (row,) = measure_inference({kind: model}, [40], batch_sizes=[3], num_tokens=2, rounds=1)
    assert decoding_bytes(model, 3, 40) == 2 * row.state_bytes


def same_size():
    from tttkit.models.hugging_face.same_size import models_of_same_size

    ours = small_model()
    return models_of_same_size(ours.config, sum(each.numel() for each in ours.parameters()), 64)


def test_models_of_transformers_have_the_size_of_ours():
    pytest.importorskip("transformers")
    from tttkit.models.hugging_face.same_size import models_of_same_size

    config = ModelConfig(vocab_size=512, hidden_size=64, num_hidden_layers=6, num_attention_heads=4)
    gpt2, mamba2 = models_of_same_size(config, 500_000, 100).values()
    counts = [sum(each.numel() for each in model.module.parameters()) for model in (gpt2, mamba2)]
    assert counts[0] - 100 * 64 == pytest.approx(500_000, rel=0.01)
    assert counts[1] == pytest.approx(500_000, rel=0.1)  # whole layers
    assert (gpt2.max_positions, mamba2.max_positions, gpt2.can_carry, mamba2.can_carry) == (100, None, True, True)
    assert gpt2.vocab_size == mamba2.vocab_size == 512


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
