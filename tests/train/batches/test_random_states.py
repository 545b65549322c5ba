"""Initial memories drawn at random: their moments, by layer and head, are those of the last final memories."""

from __future__ import annotations

import pytest
import torch

from tests.models.small import MEMORIES, exact_model
from tttkit.config.run import TrainConfig
from tttkit.models.state import is_memory
from tttkit.train.batches.curriculum import stages_of
from tttkit.train.batches.random_states import RandomStates

WINDOW, ROWS = 16, 200
FIELDS = {"linear": {}, "mlp-conv": {"ttt_layer_type": "mlp", "share_qk": True, "pre_conv": True}, **MEMORIES}
every_state = pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)


def states_of(kind, fields=None, **options):
    model = exact_model(vocab_size=300, **{"mini_batch_size": 8, **(fields or {})})
    train = TrainConfig(**{"window": WINDOW, "batch_size": ROWS, "initial_state": kind, "seed": 1, **options})
    return model, RandomStates(model, train, stages_of(train)[0])


def after_update(model, states, step):
    """Run one update over random windows; return the states after its windows."""
    windows = torch.randint(0, 300, (ROWS, WINDOW + 1), generator=torch.Generator().manual_seed(step))
    tokens, resets = states.read(step, windows)
    states.begin_update(step, resets)
    with torch.no_grad():
        _, after = model(tokens[:, :-1], state=states.next_states(ROWS))
    states.add(after)
    states.end_update(applied=True)
    return after


def by_head(state):
    """Return the memories of every layer as (H, values)."""
    return [x.transpose(0, 1).flatten(1) for layer in state.layers for name, x in layer.items() if is_memory(name)]


def drawn(states, step):
    states.begin_update(step, torch.zeros(ROWS, dtype=torch.bool))
    return states.first_states(ROWS)


@every_state
@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_noise_is_as_large_as_the_last_memories(fields, noise):
    model, states = states_of("gaussian", fields, initial_state_noise=noise)
    first = drawn(states, 1)
    assert all(not tensor.any() for layer in first.layers for tensor in layer.values()), "no memory is known yet"
    final = by_head(after_update(model, states, 1))
    for memory, before in zip(final, by_head(drawn(states, 2)), strict=True):
        rms = memory.square().mean(1).sqrt()
        torch.testing.assert_close(before.std(1), noise * rms, rtol=0.1, atol=0, check_dtype=False)
        assert (before.mean(1).abs() < 0.1 * rms).all()


@every_state
def test_fitted_noise_has_their_mean_too(fields):
    model, states = states_of("fitted", fields, initial_state_noise=1.0)
    final = by_head(after_update(model, states, 1))
    for memory, before in zip(final, by_head(drawn(states, 2)), strict=True):
        deviation = memory.std(1, correction=0)
        torch.testing.assert_close(before.std(1), deviation, rtol=0.1, atol=0, check_dtype=False)
        assert ((before.mean(1) - memory.mean(1)).abs() < 0.1 * deviation).all()


def test_a_mean_changes_nothing_for_ttt_linear_but_does_for_other_memories():
    """The layer norm behind the linear memory removes a shift of all entries, so `fitted` equals `gaussian` there."""
    tokens = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(0))

    def change(**fields):
        model, _ = states_of("fitted", fields)
        zero = model.initial_state(2)
        shifted = zero.map(lambda name, x: x + 0.5 if is_memory(name) else x)
        with torch.no_grad():
            return (model(tokens, state=shifted)[0] - model(tokens, state=zero)[0]).abs().max().item()

    assert change() < 1e-4
    assert change(ttt_layer_type="mlp") > 1e-2
    assert change(**FIELDS["mamba2"]) > 1e-2


def test_caches_start_empty_and_some_rows_from_zero():
    fields = {"pattern": ["ttt-linear", "sw"], "pre_conv": True, "share_qk": True}
    model, states = states_of("gaussian", fields, initial_state_zero_share=0.25)
    after_update(model, states, 1)
    _, resets = states.read(2, torch.zeros(ROWS, WINDOW + 1, dtype=torch.int64))
    states.begin_update(2, resets)
    for layer in states.first_states(ROWS).layers:
        for name, tensor in layer.items():
            is_random = tensor.reshape(ROWS, -1).abs().sum(1) > 0
            assert is_random.sum() == (ROWS * 3 // 4 if is_memory(name) else 0)


@pytest.mark.parametrize("kind", ["gaussian", "fitted"])
def test_every_update_and_every_seed_draws_its_own_noise_and_a_resumed_run_draws_the_same(kind):
    model, states = states_of(kind)
    after_update(model, states, 1)
    (_, resumed), (_, of_other_seed) = states_of(kind), states_of(kind, seed=2)
    resumed.load(states.tensors())
    of_other_seed.load(states.tensors())
    second = by_head(drawn(states, 2))
    assert not any(torch.equal(a, b) for a, b in zip(second, by_head(drawn(of_other_seed, 2)), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(second, by_head(drawn(resumed, 2)), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(second, by_head(drawn(states, 3)), strict=True))
    states.end_update(applied=False)
    assert all(not x.any() for x in by_head(drawn(states, 4))), "after a skipped update all rows start from zero"


def test_the_spread_of_fitted_noise_is_measured_around_the_mean():
    model, states = states_of("fitted", initial_state_noise=1.0)
    generator = torch.Generator().manual_seed(0)
    spread = model.initial_state(ROWS).map(lambda _, x: 3.0 + 0.1 * torch.randn(x.shape, generator=generator))
    states.begin_update(1, torch.zeros(ROWS, dtype=torch.bool))
    states.add(spread)
    states.end_update(applied=True)
    for before in by_head(drawn(states, 2)):
        torch.testing.assert_close(before.mean(1), torch.full_like(before[:, 0], 3.0), rtol=0.01, atol=0)
        torch.testing.assert_close(before.std(1), torch.full_like(before[:, 0], 0.1), rtol=0.05, atol=0)
