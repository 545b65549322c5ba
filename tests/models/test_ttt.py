"""The chunked dual form equals the token-by-token specification."""

from __future__ import annotations

import pytest
import torch

from tttkit.models.ttt_inner import gelu_derivative, norm_gradient
from tttkit.models.ttt_reference import reference_forward

from .small import VARIANTS, random_ids, small_model


def layer_and_input(fields, batch, length, **sizes):
    layer = small_model(**fields, **sizes).double().model.layers[0].seq_modeling_block
    y = torch.randn(batch, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return layer, y.requires_grad_()


def output_and_gradients(function, layer, y):
    output = function(y)
    direction = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(4))
    parameters = dict(layer.named_parameters())
    gradients = torch.autograd.grad((output * direction).sum(), [y, *parameters.values()])
    return output, dict(zip(["y", *parameters], gradients, strict=True))


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(
    ("length", "mini_batch"), [(1, 4), (9, 4), (7, 16), (5, 1), (6, 3), (13, 5), (33, 8), (37, 16), (67, 64)]
)
def test_outputs_and_gradients_equal_the_specification(fields, length, mini_batch):
    layer, y = layer_and_input(fields, 2, length, mini_batch_size=mini_batch)
    expected, expected_gradients = output_and_gradients(lambda x: reference_forward(layer, x), layer, y)
    output, gradients = output_and_gradients(lambda x: layer(x)[0], layer, y)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-10)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_base_learning_rate_scales_the_learning_rates(kind):
    outputs = []
    for base in (1.0, 0.3):
        layer, y = layer_and_input({"ttt_layer_type": kind, "ttt_base_lr": base}, 1, 9)
        outputs.append(layer(y)[0])
        torch.testing.assert_close(outputs[-1], reference_forward(layer, y), rtol=1e-9, atol=1e-10)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_gradient_equals_finite_differences(kind):
    fields = {"ttt_layer_type": kind, "hidden_size": 4, "num_attention_heads": 1, "mini_batch_size": 2}
    layer = small_model(**fields).double().model.layers[0].seq_modeling_block
    y = torch.randn(1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5), requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(y, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (y,))[0]

    assert torch.autograd.gradcheck(run, (y, *values), eps=1e-6, atol=1e-6)


def test_norm_gradient_is_the_gradient_of_the_inner_loss():
    z, target = torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(6)).unbind()
    scale, shift = torch.randn(2, 3, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).unbind()
    z.requires_grad_()
    reached = scale * torch.nn.functional.layer_norm(z, (6,), eps=1e-6) + shift
    (expected,) = torch.autograd.grad((0.5 * (reached - target) ** 2).sum(), z)
    gradient = norm_gradient(z, scale * (shift - target), scale**2, 1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_norm_gradient_can_be_differentiated():
    generator = torch.Generator().manual_seed(8)
    inputs = [
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in [(2, 3, 4), (2, 3, 4), (2, 1, 4)]
    ]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(lambda z, pull, squared: norm_gradient(z, pull, squared, 1e-3), inputs)


def test_gelu_derivative():
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(torch.nn.functional.gelu(x, approximate="tanh").sum(), x)
    torch.testing.assert_close(gelu_derivative(x), expected)


def test_fast_state_is_float32_under_bf16_autocast():
    model = small_model(ttt_layer_type="mlp", pre_conv=True, share_qk=True)
    block = model.model.layers[0].seq_modeling_block
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, state = model.step(random_ids(2, 11), model.initial_state(2))
        read, _ = block(torch.randn(1, 4, 16))
    seen = {name: tensor.dtype for name, tensor in state.layers[1].items()}
    assert set(seen.values()) == {torch.float32}, seen
    assert read.dtype == torch.bfloat16  # autocast did reach the projections
    assert logits.dtype == torch.float32
    exact = model(random_ids(2, 11))
    assert 0 < (logits - exact).abs().max() < 0.2


def test_bf16_autocast_keeps_the_inner_loop_exact():
    """The inner loop gets rounded inputs, but must not round itself: compare it with float32 on the same inputs."""
    layer = small_model(mini_batch_size=8).model.layers[0].seq_modeling_block
    y = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(9))
    inputs = [torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(s)).bfloat16() for s in (1, 2, 3)]
    state = layer.initial_state(2)
    expected, expected_state = layer._learn(y, *inputs, state, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autocast("cpu", enabled=False):
        output, after = layer._learn(y, *inputs, state, 0)
    assert output.dtype == torch.float32
    assert torch.equal(output, expected)
    assert torch.equal(after["delta1"], expected_state["delta1"])
