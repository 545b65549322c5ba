"""The state along a text equals that of one pass, and distances are measured against states of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.small import ARCHITECTURES, VOCAB_SIZE, small_model
from tttkit.diagnose.states import Reference, along, layers_with_memory, reference_of

WITH_MEMORY = [name for name, fields in ARCHITECTURES.items() if layers_with_memory(small_model(**fields))]
GENERATOR = np.random.default_rng(0)


def ids(*shape: int) -> np.ndarray:
    return GENERATOR.integers(0, VOCAB_SIZE, shape)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_the_norm_is_that_of_one_pass_in_every_architecture(name):
    model, text = small_model(**ARCHITECTURES[name]).eval(), ids(24)
    measured = along(model, text, 4, None, lambda _: None)
    layers = layers_with_memory(model)
    assert measured["norm"].shape == (6, len(layers))
    with torch.no_grad():
        _, state = model.advance(torch.from_numpy(text)[None], model.initial_state(1))
        named = model.diagnostics(torch.from_numpy(text)[None])
    norms = [
        sum(float(m.square().sum()) for m in block.seq_modeling_block.memories(state.layers[index])) ** 0.5
        for index, block in enumerate(model.model.layers)
        if index in layers
    ]
    np.testing.assert_allclose(measured["norm"][-1], norms, rtol=1e-4)
    reported = [*named.get("fast_weight_norm", []), *named.get("memory_norm", [])]
    np.testing.assert_allclose(sorted(measured["norm"][-1]), sorted(reported), rtol=1e-3)


def test_windows_of_attention_are_no_memory():
    assert layers_with_memory(small_model(architecture="sw")) == []
    assert layers_with_memory(small_model(architecture="transformer")) == []
    assert layers_with_memory(small_model(pattern=["ttt-linear", "sw"])) == [0]


def test_the_inner_loss_is_that_of_the_model():
    model, text = small_model().eval(), ids(8)
    measured = along(model, text, 4, None, lambda _: None)
    figures = model.diagnostics(torch.from_numpy(text)[None])
    for name in ("before", "after"):
        expected = np.array(figures[f"inner_loss_{name}"]).reshape(2, 4).mean(axis=1)
        np.testing.assert_allclose(measured[name].mean(axis=1), expected, rtol=1e-3)
    assert "before" not in along(small_model(architecture="mamba2").eval(), text, 4, None, lambda _: None)


def test_the_distance_is_one_where_every_feature_is_one_deviation_away():
    reference = Reference([torch.full((2, 3), 5.0)], [torch.full((2, 3), 2.0)], [torch.tensor([1.5, 1.5])])
    memory = torch.tensor([[[7.0, 3.0, 7.0], [5.0, 5.0, 11.0]]])
    np.testing.assert_allclose(reference.distances([memory])[0].numpy(), [[1.0, 3**0.5]], rtol=1e-6)


@pytest.mark.parametrize("name", ["linear", "mamba2", "lact", "four-kinds"])
def test_few_states_of_training_are_unexplored_and_foreign_ones_are(name):
    model = small_model(**ARCHITECTURES[name]).eval()
    reference = reference_of(model, ids(64, 16), 4, 8, lambda _: None)
    fresh = [along(model, ids(16), 4, reference, lambda _: None) for _ in range(8)]
    assert np.mean([each["unexplored"].mean() for each in fresh]) < 0.1
    assert 0.7 < np.mean([each["distance"].mean() for each in fresh]) < 1.3
    shifted = Reference(
        [mean + 100 * scale for mean, scale in zip(reference.mean, reference.scale, strict=True)],
        reference.scale,
        reference.threshold,
    )
    assert along(model, ids(16), 4, shifted, lambda _: None)["unexplored"].min() == 1.0


def test_a_reference_survives_its_block():
    model = small_model().eval()
    reference = reference_of(model, ids(20, 8), 4, 4, lambda _: None)
    again = Reference.from_arrays(reference.to_arrays(), torch.device("cpu"))
    for name in ("mean", "scale", "threshold"):
        assert all(torch.equal(a, b) for a, b in zip(getattr(again, name), getattr(reference, name), strict=True))


def test_one_half_of_the_windows_gives_the_mean_and_the_other_half_the_limit():
    model, windows = small_model().eval(), ids(24, 8)
    others = windows.copy()
    others[1::2] = ids(12, 8)
    first, second = (reference_of(model, each, 4, 4, lambda _: None) for each in (windows, others))
    assert all(torch.equal(a, b) for a, b in zip(first.mean, second.mean, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.threshold, second.threshold, strict=True))


def test_a_feature_that_hardly_varies_has_a_share_of_the_mean_variance():
    model = small_model().eval()
    # training windows that all begin alike: many features hardly vary
    windows = np.concatenate([np.zeros((24, 7), dtype=np.int64), ids(24, 1)], axis=1)
    for scale in reference_of(model, windows, 4, 4, lambda _: None).scale:
        variance = scale.square()
        assert (variance >= 0.049 * variance.mean(dim=-1, keepdim=True)).all()


def test_the_distance_of_a_layer_is_the_root_mean_square_over_its_heads_each_with_its_own_limit():
    model, text = small_model().eval(), ids(4)
    with torch.no_grad():
        _, state = model.advance(torch.from_numpy(text)[None], model.initial_state(1))
    heads = [
        torch.cat([m.flatten(2) for m in block.seq_modeling_block.memories(layer)], -1)[0]
        for block, layer in zip(model.model.layers, state.layers, strict=True)
    ]
    norms = [head.square().mean(dim=-1).sqrt() for head in heads]
    reference = Reference(
        [torch.zeros_like(head) for head in heads], [torch.ones_like(head) for head in heads],
        [norm + torch.tensor([-0.1, 0.1]) * norm for norm in norms],
    )  # fmt: skip
    measured = along(model, text, 4, reference, lambda _: None)
    np.testing.assert_allclose(measured["distance"][0], [norm.square().mean().sqrt() for norm in norms], rtol=1e-5)
    assert measured["unexplored"][0].tolist() == [0.5] * len(heads)


def test_the_reference_is_that_of_all_states_of_each_half_whatever_is_read_at_once():
    model, windows = small_model().eval(), ids(12, 8)
    block = model.model.layers[1].seq_modeling_block

    def states_of(half):
        with torch.no_grad():
            states = [model.advance(torch.from_numpy(half)[:, :stop], model.initial_state(6))[1] for stop in (4, 8)]
        flat = [torch.cat([m.flatten(2) for m in block.memories(state.layers[1])], -1) for state in states]
        return torch.cat(flat).double()

    every, others = states_of(windows[::2]), states_of(windows[1::2])
    variance = every.var(dim=0, correction=0)
    scale = (0.95 * variance + 0.05 * variance.mean(dim=-1, keepdim=True)).sqrt()
    distances = ((others - every.mean(dim=0)) / scale).square().mean(dim=-1).sqrt()
    limits = np.quantile(distances, 0.99, axis=0)
    for rows in (1, 4, 6):
        reference = reference_of(model, windows, 4, rows, lambda _: None)
        np.testing.assert_allclose(reference.mean[1], every.mean(dim=0), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(reference.scale[1], scale, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(reference.threshold[1], limits, rtol=1e-3)
