"""Properties of every architecture: causality, independence of rows, segments, results, errors, initial values."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from tttkit.models import ModelState, build_model

from .small import ARCHITECTURES, VARIANTS, assert_close, exact_model, random_ids, small_config, small_model

all_architectures = pytest.mark.parametrize("fields", ARCHITECTURES.values(), ids=ARCHITECTURES)
MODELS = {name: exact_model(**fields) for name, fields in ARCHITECTURES.items()}


@all_architectures
def test_no_logit_depends_on_a_later_token(fields):
    model = exact_model(**fields)
    ids = random_ids(1, 19)
    changed = ids.clone()
    changed[:, 11:] = (changed[:, 11:] + 1) % 61
    before, after = model(ids), model(changed)
    torch.testing.assert_close(after[:, :11], before[:, :11], rtol=0, atol=1e-6)
    assert not torch.allclose(after[:, 11], before[:, 11], atol=1e-3)


@all_architectures
def test_rows_of_a_batch_do_not_touch_each_other(fields):
    model = exact_model(**fields)
    ids = random_ids(3, 14)
    alone = torch.cat([model(row[None]) for row in ids])
    assert_close(model(ids), alone)


@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=25)
@given(segments=st.lists(st.integers(1, 11), min_size=1, max_size=7))
def test_any_segmentation_equals_one_pass(name, segments):
    model = MODELS[name]
    ids = random_ids(2, sum(segments), seed=len(segments))
    with torch.inference_mode():
        state, parts = model.initial_state(2), []
        for part in ids.split(segments, dim=1):
            logits, state = model.step(part, state)
            parts.append(logits)
        assert_close(torch.cat(parts, dim=1), model(ids))
    assert state.position == sum(segments)


@all_architectures
def test_gradients_through_segments_equal_those_of_one_pass(fields):
    model = small_model(**fields).double()
    ids = random_ids(2, 15)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(ids).square().sum(), parameters)
    state, total = model.initial_state(2), torch.zeros((), dtype=torch.float64)
    for part in ids.split([6, 1, 2, 6], dim=1):
        logits, state = model.step(part, state)
        total = total + logits.square().sum()
    for gradient, wanted in zip(torch.autograd.grad(total, parameters), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_initial_fast_weights_receive_their_gradient_from_a_detached_state(fields):
    model = small_model(**fields)
    _, state = model.step(random_ids(2, 10), model.initial_state(2))
    logits, _ = model.step(random_ids(2, 7, seed=1), state.detach())
    logits.square().sum().backward()
    for layer in model.model.layers:
        for name in ("W1", "b1"):
            assert layer.seq_modeling_block.get_parameter(name).grad.abs().sum() > 0, name


@all_architectures
def test_state_rows_can_be_selected_stacked_and_saved(fields):
    model = exact_model(**fields)
    ids, more = random_ids(3, 9), random_ids(3, 6, seed=1)
    _, state = model.step(ids, model.initial_state(3))
    expected, _ = model.step(more, state)
    rebuilt = ModelState.stack([state.select([2, 0]), state.select([1])])
    rebuilt = ModelState.from_tensors(load(save(rebuilt.to_tensors())))
    logits, _ = model.step(more[[2, 0, 1]], rebuilt)
    assert_close(logits, expected[[2, 0, 1]])


def test_states_of_different_positions_do_not_stack():
    model = small_model()
    state = model.initial_state(1)
    _, later = model.step(random_ids(1, 3), state)
    with pytest.raises(ValueError, match=r"same position, got \[0, 3\]"):
        ModelState.stack([state, later])


def test_sliding_window_sees_the_last_tokens_only_and_keeps_a_short_cache():
    model = small_model(architecture="sw", num_hidden_layers=1)
    ids = random_ids(1, 20)
    changed = ids.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 61
    difference = (model(ids) - model(changed)).abs().amax(dim=(0, 2))
    assert difference[3:9].min() > 1e-4
    assert difference[9:].max() == 0
    _, state = model.step(ids, model.initial_state(1))
    assert state.layers[0]["keys"].shape[2] == 5


def test_hidden_states_and_head_are_the_whole_model():
    model = small_model(tie_word_embeddings=False)
    ids = random_ids(2, 9)
    assert torch.equal(model.head(model.hidden_states(ids)), model(ids))
    torch.testing.assert_close(model.head(model.hidden_states(ids)[:, -1]), model(ids)[:, -1])


@all_architectures
def test_a_model_returns_logits_or_loss_with_or_without_a_state(fields):
    model, ids = exact_model(**fields), random_ids(2, 12)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    logits = model(inputs)
    dtype = next(model.parameters()).dtype
    assert (logits.shape, logits.dtype) == ((2, 11, 61), dtype)
    loss = model(inputs, targets)
    assert (loss.shape, loss.dtype) == ((), dtype)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    first, state = model(inputs[:, :5], state=model.initial_state(2))
    second, after = model(inputs[:, 5:], targets[:, 5:], state)
    expected, last = model.step(inputs[:, 5:], state)
    assert_close(torch.cat((first, expected), dim=1), logits)
    torch.testing.assert_close(
        second, torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets[:, 5:].flatten())
    )
    assert after.position == last.position == 11
    assert all(torch.equal(after.layers[0][name], tensor) for name, tensor in last.layers[0].items())


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"targets must have the shape of input_ids, got \(2, 4\) and \(2, 3\)"):
        small_model()(random_ids(2, 3), random_ids(2, 4))


@pytest.mark.parametrize(
    ("input_ids", "error", "message"),
    [
        (torch.zeros(1, 3), TypeError, "input_ids must be int64 or int32, got torch.float32"),
        (torch.zeros(3, dtype=torch.int64), ValueError, r"input_ids must have shape \(B, L\), got \(3,\)"),
        (torch.zeros(1, 0, dtype=torch.int64), ValueError, r"at least one row and one token, got shape \(1, 0\)"),
        (torch.tensor([[1, 61]]), ValueError, r"input_ids must be in 0 … 60 \(vocab_size 61\), got 1 … 61"),
        (torch.tensor([[-1, 3]]), ValueError, "got -1 … 3"),
    ],
)
def test_unusable_ids_are_refused(input_ids, error, message):
    model = small_model()
    with pytest.raises(error, match=message):
        model(input_ids)
    with pytest.raises(error, match=message):
        model.step(input_ids, model.initial_state(1))


def test_a_state_of_another_batch_is_refused():
    model = small_model()
    with pytest.raises(ValueError, match="as many rows as input_ids, got 3 and 2"):
        model.step(random_ids(2, 4), model.initial_state(3))


def changed_state(model, change):
    return model.initial_state(2).map(change)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda model: small_model(num_hidden_layers=1).initial_state(2), "state must have 2 layers, got 1"),
        (
            lambda model: small_model(architecture="sw").initial_state(2),
            "must hold delta1, pending1 in layer 0, got keys",
        ),
        (
            lambda model: small_model(num_attention_heads=4).initial_state(2),
            r"delta1 of shape \(B, 2, 9, 8\), got \(2, 4",
        ),
        (lambda model: changed_state(model, lambda _, t: t[..., 0]), r"of shape \(B, 2, 9, 8\), got \(2, 2, 9\)"),
        (
            lambda model: changed_state(model, lambda _, t: t.double()),
            "must be torch.float32 as the model is, but delta1 is",
        ),
        (lambda model: changed_state(model, lambda _, t: t.long()), "but delta1 is torch.int64"),
        (lambda model: changed_state(model, lambda _, t: t.to("meta")), "device cpu, but delta1 is on meta"),
    ],
    ids=["layers", "architecture", "heads", "dimensions", "precision", "integers", "device"],
)
def test_a_state_that_does_not_fit_is_refused(state, message):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model.step(random_ids(2, 4), state(model))


def test_every_layer_of_a_state_is_checked():
    model = small_model()
    state, other = model.initial_state(2), small_model(architecture="sw").initial_state(2)
    with pytest.raises(ValueError, match="must hold delta1, pending1 in layer 1, got keys"):
        model.step(random_ids(2, 4), ModelState(position=0, layers=(state.layers[0], other.layers[1])))
    narrow = {name: tensor[:, :1] for name, tensor in state.layers[1].items()}
    with pytest.raises(ValueError, match=r"delta1 of shape \(B, 2, 9, 8\), got \(2, 1, 9, 8\)"):
        model.step(random_ids(2, 4), ModelState(position=0, layers=(state.layers[0], narrow)))


def test_a_cache_of_other_heads_is_refused():
    model, other = (small_model(architecture="transformer", num_attention_heads=heads) for heads in (2, 4))
    _, state = other.step(random_ids(2, 3), other.initial_state(2))
    with pytest.raises(ValueError, match=r"keys of shape \(B, 2, n, 8\), got \(2, 4, 3, 4\)"):
        model.step(random_ids(2, 4), state)


def test_ids_on_another_device_are_refused():
    model = small_model().to("meta")
    with pytest.raises(ValueError, match="input_ids must be on the model's device meta, got cpu"):
        model(random_ids(1, 3))


def test_building_is_deterministic_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, second = build_model(small_config(), seed=5), build_model(small_config(), seed=5)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    other = build_model(small_config(), seed=6)
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)
    torch.manual_seed(5)
    assert torch.equal(build_model(small_config()).model.embed_tokens.weight, first.model.embed_tokens.weight)


def test_initial_values_have_the_official_distribution():
    config = small_config(hidden_size=64, use_gate=True, pre_conv=True, ttt_layer_type="mlp", initializer_range=0.05)
    for name, parameter in build_model(config, seed=1).named_parameters():
        part = name.split(".")[-2] + "." + name.split(".")[-1]
        if part == "conv.weight" or part == "conv.bias":
            assert parameter.abs().max() <= 0.5  # PyTorch's own rule: uniform up to 1 / sqrt(kernel)
            assert parameter.std() > 0.2
        elif part.endswith(("_proj.weight", "embed_tokens.weight", ".W1", ".W2", "lr_weight")):
            assert abs(parameter.std() / 0.05 - 1) < 0.1, name
            assert abs(parameter.mean()) < 0.01, name
        elif part.endswith(("norm.weight", "norm_weight")):
            assert (parameter == 1).all(), name
        else:
            assert (parameter == 0).all(), name


def test_a_loss_over_scored_targets_is_the_mean_over_them_alone():
    from tttkit.config.model import ModelConfig
    from tttkit.models import build_model

    torch.manual_seed(0)
    config = ModelConfig(
        architecture="transformer", vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=16,
    )  # fmt: skip
    model = build_model(config)
    windows = torch.randint(0, 30, (2, 9))
    scored = torch.rand(2, 8) > 0.5
    loss = model(windows[:, :-1], targets=windows[:, 1:], scored=scored)
    torch.testing.assert_close(loss, model.score(windows, 8)[scored].mean())
