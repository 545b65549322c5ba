"""Attention sinks equal their definition, one query at a time, in every path of the code."""

from __future__ import annotations

import math

import pytest
import torch

from tttkit.models.carried_window import CarriedWindow
from tttkit.models.sliding_window import SlidingWindowAttention

from .small import random_ids, small_config, small_model

WINDOW = 3


def layer_with(sink: str, **fields) -> CarriedWindow:
    torch.manual_seed(0)
    config = small_config(architecture="sw", sliding_window=WINDOW, sink=sink, **fields)
    layer = CarriedWindow(config).double()
    if layer.sink_logit is not None:
        torch.nn.init.normal_(layer.sink_logit)
    return layer


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def rotated(x: torch.Tensor, distance: int, theta: float) -> torch.Tensor:
    """Rotate (d) by a distance, written out pair by pair."""
    pairs = []
    for m in range(len(x) // 2):
        angle = distance * theta ** (-2 * m / len(x))
        even, odd = x[2 * m], x[2 * m + 1]
        pairs += [even * math.cos(angle) - odd * math.sin(angle), odd * math.cos(angle) + even * math.sin(angle)]
    return torch.stack(pairs)


def by_hand(layer: CarriedWindow, y: torch.Tensor) -> torch.Tensor:
    """Return the output (L, D) of one row y (L, D)."""
    config, reads = layer.config, []
    q, k, v = (projection(y).view(len(y), config.num_attention_heads, -1) for projection in
               (layer.q_proj, layer.k_proj, layer.v_proj))  # fmt: skip
    for t in range(len(y)):
        distances = {s: t - s for s in range(max(0, t - WINDOW + 1), t + 1)}
        for j in range(config.num_sink_tokens):
            if t - j >= WINDOW:
                distances[j] = min(t - j, WINDOW - 1 + config.num_sink_tokens - j)
        for head in range(config.num_attention_heads):
            scores = torch.stack([
                rotated(q[t, head], distance, config.rope_theta) @ k[s, head] / math.sqrt(config.head_dim)
                for s, distance in distances.items()
            ])  # fmt: skip
            weights = scores.exp()
            total = weights.sum() + (0 if layer.sink_logit is None else layer.sink_logit[head].exp())
            reads.append(weights / total @ v[list(distances), head])
    return layer.o_proj(torch.stack(reads).view(len(y), -1))


@pytest.mark.parametrize(
    "layer", [layer_with("tokens", num_sinks=2), layer_with("tokens", num_sinks=5), layer_with("logit")]
)
def test_a_layer_with_sinks_equals_its_definition(layer):
    """The text is long enough for blocks of W tokens; the segments use the mask, the cache and blocks."""
    y = normal(2, 31, 16)
    expected = torch.stack([by_hand(layer, row) for row in y])
    torch.testing.assert_close(layer(y)[0], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer(y, last=4)[0], expected[:, -4:], rtol=1e-9, atol=1e-12)
    for cuts in ([31], [1, 2, 28], [1] * 31, [4, 1, 26]):
        state, reads = layer.initial_state(2), []
        for part in y.split(cuts, dim=1):
            read, state = layer(part, state)
            reads.append(read)
        torch.testing.assert_close(torch.cat(reads, dim=1), expected, rtol=1e-9, atol=1e-12)


def test_rows_that_begin_a_text_at_different_places_have_sinks_of_their_own():
    layer, y = layer_with("tokens", num_sinks=2), normal(2, 12, 16)
    _, state = layer(y[:, :4], layer.initial_state(2))
    state = {name: tensor.clone() for name, tensor in state.items()}
    for tensor in state.values():
        tensor[1] = 0  # the second row begins a text
    reads = []
    for part in y[:, 4:].split([1, 7], dim=1):
        read, state = layer(part, state)
        reads.append(read)
    read = torch.cat(reads, dim=1)
    torch.testing.assert_close(read[0], by_hand(layer, y[0])[4:], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(read[1], by_hand(layer, y[1, 4:]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sink", ["tokens", "logit"])
@pytest.mark.parametrize("length", [9, 26])
def test_gradients_equal_finite_differences(sink, length):
    layer = layer_with(sink, hidden_size=4, num_attention_heads=1)
    names, values = zip(*layer.named_parameters(), strict=True)
    values = [value.detach().requires_grad_() for value in values]
    _, state = layer(normal(1, 5, 4), layer.initial_state(1))

    def run(y, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (y, state))[0]

    assert torch.autograd.gradcheck(run, (normal(1, length, 4).requires_grad_(), *values), fast_mode=True)


def test_no_text_within_the_window_has_token_sinks():
    with_sinks, without = layer_with("tokens"), layer_with("none")
    y = normal(2, WINDOW, 16)
    assert torch.equal(with_sinks(y)[0], without(y)[0])
    assert not torch.equal(with_sinks(normal(2, 9, 16))[0], without(normal(2, 9, 16))[0])


def test_a_model_without_sinks_has_the_same_numbers_with_them_up_to_its_window():
    plain, model = small_model(architecture="sw"), small_model(architecture="sw", sink="tokens")
    model.load_state_dict(plain.state_dict())
    ids = random_ids(2, 2 * model.config.sliding_window)
    expected, found = plain(ids), model(ids)
    within = model.config.sliding_window
    torch.testing.assert_close(found[:, :within], expected[:, :within], rtol=0, atol=1e-5)
    assert (found - expected)[:, within:].abs().max() > 1e-3


def test_without_sinks_nothing_is_new():
    model = small_model(architecture="sw")
    assert type(model.model.layers[0].seq_modeling_block) is SlidingWindowAttention
    assert not model.has_state
    hybrid = small_model(pattern=["ttt-linear", "sw"])
    assert not [name for name in hybrid.state_dict() if "sink" in name]
    assert hybrid.initial_state(1).layers[1].keys() == {"window_keys", "window_values", "num_read"}


def test_a_sliding_window_with_sinks_can_carry_its_state_over():
    model, ids = small_model(architecture="sw", sink="tokens", num_sinks=2), random_ids(2, 24)
    _, state = model.step(ids[:, :12], model.initial_state(2))
    assert model.has_state
    assert state.layers[0]["sink_keys"].shape == (2, 2, 2, 8)
    again = state.reset(torch.tensor([True, True]))
    torch.testing.assert_close(model.step(ids[:, 12:], again)[0], model(ids[:, 12:]), rtol=0, atol=1e-5)


def test_sinks_count_in_the_arithmetic_once_the_text_is_longer_than_the_window():
    plain, sinks = (small_model(pattern=["sw"], sink=sink, num_sinks=2) for sink in ("none", "tokens"))
    assert plain.flops_per_token(6) == sinks.flops_per_token(6)
    seen = sum(max(0, 60 - 6 - j) for j in range(2)) / 60
    difference = sinks.flops_per_token(60) - plain.flops_per_token(60)
    assert difference / (6 * 2 * 16) == pytest.approx(2 * seen, abs=1.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sink": "tokens"}, "model.sink is for models with a sliding window, such as sw, got ttt-linear"),
        ({"pattern": ["ttt-linear", "mamba2"], "sink": "logit"}, "model.sink is for models with a sliding window"),
        ({"architecture": "sw", "sink": "tokens", "num_sinks": 0}, "model.num_sinks must be at least 1, got 0"),
    ],
)
def test_sinks_that_fit_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        small_config(**fields)
