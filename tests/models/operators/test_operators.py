"""Every operator equals its reference implementation, its own token-by-token form, and itself in parts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tttkit.models.operators import chunks

from .cases import (
    COMMITTED,
    INPUTS,
    VARIANTS,
    draw,
    golden_cases,
    options_of,
    part_of,
    read_case,
    run,
    tensors_of,
)

all_variants = pytest.mark.parametrize("variant", VARIANTS)
both_forms = pytest.mark.parametrize("reference", [False, True], ids=["chunked", "token-by-token"])


def distance(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1)).item()


def check_golden(name, path, dtype, reference):
    tensors, facts = read_case(path, dtype)
    inputs = {key: tensors[key].requires_grad_() for key in INPUTS[name] if key in tensors}
    options = options_of(name, facts)
    state = None
    if "initial_state" in tensors:
        state = tensors["initial_state"].requires_grad_()
        inputs["initial_state"] = state
        if name == "titans":
            inputs["initial_momentum"] = tensors["initial_momentum"].requires_grad_()
            state = (state, inputs["initial_momentum"])
    output, after = run(name, inputs, options, state, reference=reference)
    tolerance, gradient_tolerance = (5e-5, 1e-3) if options.get("muon") else (1e-5, 1e-4)
    if dtype == torch.float64:
        tolerance = gradient_tolerance = 1e-6
    results = {"final_" + key: tensor for key, tensor in tensors_of(after).items()}
    results["y" if name == "mamba2_ssd" else "o"] = output
    for key in (key for key in tensors if key.startswith("final_") or key in ("o", "y")):
        assert distance(results[key], tensors[key]) < tolerance, key
    (output * tensors["weight"]).sum().backward()
    for key, tensor in inputs.items():
        assert distance(tensor.grad, tensors[f"grad_{key}"]) < gradient_tolerance, key


@both_forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "path"), golden_cases(COMMITTED), ids=lambda value: getattr(value, "stem", value))
def test_results_of_the_reference_implementations(name, path, dtype, reference):
    check_golden(name, path, dtype, reference)


def test_all_results_of_the_reference_implementations(shared):
    cases = golden_cases(shared / "golden" / "ops")
    assert len(cases) >= 18
    for name, path in cases:
        for dtype in (torch.float32, torch.float64):
            check_golden(name, path, dtype, reference=False)


@all_variants
@settings(max_examples=15)
@given(parts=st.lists(st.integers(1, 90), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_any_segmentation_equals_the_token_by_token_form(variant, parts, seed):
    name, options = VARIANTS[variant]
    inputs = draw(variant, sum(parts), seed=seed)
    expected, final = run(name, inputs, options, reference=True)
    state, outputs, start = None, [], 0
    for length in parts:
        output, state = run(name, part_of(inputs, slice(start, start + length)), options, state)
        outputs.append(output)
        start += length
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-8, atol=1e-8)
    for key, tensor in tensors_of(final).items():
        torch.testing.assert_close(tensors_of(state)[key], tensor, rtol=1e-8, atol=1e-8)


@all_variants
def test_a_state_of_the_token_by_token_form_is_continued(variant):
    name, options = VARIANTS[variant]
    inputs = draw(variant, 23)
    expected, _ = run(name, inputs, options)
    _, state = run(name, part_of(inputs, slice(0, 7)), options, reference=True)
    output, _ = run(name, part_of(inputs, slice(7, 23)), options, state, reference=True)
    torch.testing.assert_close(output, expected[:, 7:])


@all_variants
def test_gradients_of_every_input_and_of_the_state(variant):
    name, options = VARIANTS[variant]
    inputs = draw(variant, 9)
    _, state = run(name, part_of(inputs, slice(0, 2)), options)
    names = list(inputs)
    carried = {key: tensor.detach() for key, tensor in tensors_of(state).items()}

    def compute(*values):
        given = dict(zip(names, values, strict=False))
        before = dict(zip(carried, values[len(names) :], strict=True))
        if name == "lact":
            before["count"] = state["count"]
        elif name == "titans":
            before = type(state).of(*before.values(), state.started.detach(), state.offset)
        else:
            before = before["state"]
        output, after = run(name, part_of(given, slice(2, 9)), options, before)
        return output, *tensors_of(after).values()

    arguments = [tensor.clone().requires_grad_() for tensor in (*inputs.values(), *carried.values())]
    assert torch.autograd.gradcheck(compute, arguments, fast_mode=True, check_undefined_grad=False)


@pytest.mark.parametrize("variant", ["gated_delta_rule", "mamba2_ssd", "rwkv7"])
def test_strong_decay_neither_overflows_nor_loses_digits(variant):
    inputs = {key: tensor.float() for key, tensor in draw(variant, 150, decay=8.0).items()}
    decays = inputs["g"] if variant == "gated_delta_rule" else inputs.get("w", -inputs.get("dt", torch.zeros(1)))
    assert decays[:, :64].sum(1).max() < -500
    results = {}
    for reference in (False, True):
        dtype = torch.float64 if reference else torch.float32
        given = {key: tensor.to(dtype, copy=True).requires_grad_() for key, tensor in inputs.items()}
        output, state = run(variant, given, {}, reference=reference)
        gradients = torch.autograd.grad((output * output).sum() + state.sum(), list(given.values()))
        results[reference] = [output, state, *gradients]
    for actual, expected in zip(results[False], results[True], strict=True):
        assert distance(actual.double(), expected) < 2e-5


def test_rates_and_decays_of_zero_are_exact():
    inputs = draw("titans", 70)
    inputs["eta"][:, ::3], inputs["alpha"][:, ::5] = 0.0, 1.0
    arguments = {key: tensor.requires_grad_() for key, tensor in inputs.items()}
    results = []
    for reference in (False, True):
        output, (memory, momentum) = run("titans", arguments, {"chunk": 4}, reference=reference)
        total = output.square().sum() + memory.sum() + momentum.sum()
        results.append([output, *torch.autograd.grad(total, list(arguments.values()))])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_titans_without_momentum_and_forgetting_is_deltanet():
    inputs = draw("titans", 40)
    zeros = torch.zeros_like(inputs["eta"])
    output, _ = run("titans", {**inputs, "eta": zeros, "alpha": zeros}, {"chunk": 1})
    given = {"q": inputs["q"], "k": inputs["k"], "v": inputs["v"], "beta": 2 * inputs["theta"]}
    expected, _ = run("gated_delta_rule", given, {"l2norm_q_k": False})
    torch.testing.assert_close(output, expected * 2.0)


@all_variants
def test_autocast_changes_nothing_and_the_output_has_the_dtype_of_the_values(variant):
    name, options = VARIANTS[variant]
    inputs = draw(variant, 37, dtype=torch.float32)
    expected, _ = run(name, inputs, options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = run(name, inputs, options)
    assert torch.equal(output, expected)
    value = "x" if name == "mamba2_ssd" else "v"
    rounded, state = run(name, {**inputs, value: inputs[value].bfloat16()}, options)
    assert rounded.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in tensors_of(state).values()} == {torch.float32}


class LargestTensor(TorchDispatchMode):
    """Records the largest tensor that is created."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@all_variants
def test_temporary_memory_does_not_grow_with_the_text(variant, monkeypatch):
    name, options = VARIANTS[variant]
    monkeypatch.setattr(chunks, "SEGMENT", 128)
    largest = []
    for length in (512, 2048):
        inputs = draw(variant, length)
        with torch.no_grad(), LargestTensor() as seen:
            run(name, inputs, options)
        largest.append(seen.numel)
    # the longest tensors of the long text are as long as an input
    assert largest[1] <= max(largest[0], 2 * 2048 * 2 * 4)
