"""The Triton kernels of TTT-Linear equal the plain code in float64, on a GPU or anywhere through the interpreter."""

from __future__ import annotations

import os

import pytest
import torch

from tttkit.models.block import Block
from tttkit.models.ttt_inner import Chunks, scan_linear

from .small import random_ids, small_model

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
pytestmark = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED,
    reason="torch sees no GPU; test_ttt_triton.py runs these tests through Triton's interpreter",
)
NAMES = (
    "output",
    "after",
    "queries",
    "keys",
    "values",
    "learning_rates",
    "factors",
    "scale",
    "shift",
    "weight",
    "pending",
)
CASES = {
    "whole": {"N": 3, "M": 1, "C": 16, "d": 16},
    "padded": {"N": 2, "M": 2, "C": 5, "d": 24},
    "tail": {"N": 1, "M": 2, "C": 7, "d": 16, "closes": False},
    "tail-of-pending": {"N": 1, "M": 2, "C": 3, "d": 16, "closes": False, "waits": True},
    "end-of-pending": {"N": 1, "M": 2, "C": 3, "d": 16, "waits": True},
}


@pytest.fixture(autouse=True)
def interpreted_bf16(monkeypatch):
    """Triton's interpreter keeps bf16 as raw bits and multiplies the bits: give it numbers instead."""
    if not INTERPRETED:
        return
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    def upcast(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    plain = interpreter.InterpreterBuilder.create_dot
    monkeypatch.setattr(
        interpreter.InterpreterBuilder,
        "create_dot",
        lambda self, a, b, *rest: plain(self, upcast(a), upcast(b), *rest),
    )


@pytest.fixture
def fused(monkeypatch):
    """Make models use the kernels on every device."""
    monkeypatch.setattr("tttkit.models.ttt_scan.fused_obstacle", lambda *_: None)


def draw(N, M, C, d, closes=True, waits=False):
    generator = torch.Generator().manual_seed(N * C + d)

    def normal(*shape, around=0.0, scale=1.0):
        return around + scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    tensors = [normal(N, M, C, d) for _ in range(3)]
    tensors.append(torch.rand(N, M, C, generator=generator, dtype=torch.float64) / d)
    tensors.append(torch.rand(C, generator=generator, dtype=torch.float64) + 0.2)
    tensors += [normal(M, 1, d, around=1.0, scale=0.3), normal(M, 1, d, scale=0.3), normal(M, d + 1, d, scale=0.3)]
    return tensors + ([normal(M, d + 1, d, scale=0.1)] if waits else [])


def results(scan, tensors, closes, bf16=False):
    """Return all results of a scan: outputs, final weights or pending sum, and the gradient of each input."""
    inputs = [tensor.clone().requires_grad_() for tensor in tensors]
    names = ("queries", "keys", "values", "learning_rates", "factors", "scale", "shift")
    chunks = Chunks(**dict(zip(names, inputs, strict=False)), eps=1e-6, closes=closes, bf16=bf16)
    output, weights, pending = scan(chunks, (inputs[7],), tuple(inputs[8:]) or None)
    assert (pending is None) == closes
    after = weights[0] if closes else pending[0]
    generator = torch.Generator().manual_seed(9)
    total = sum(
        (result * torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result)).sum()
        for result in (output, after)
    )
    return dict(zip(NAMES, [output, after, *torch.autograd.grad(total, inputs)], strict=False))


def errors(ours, expected):
    return {name: float((ours[name].detach().cpu() - value).norm() / value.norm()) for name, value in expected.items()}


def compare(case, *, bf16=False):
    from tttkit.models.ttt_linear_op import scan_linear_fused

    closes = case.get("closes", True)
    tensors = draw(**case)
    expected = results(scan_linear, tensors, closes)
    ours = results(scan_linear_fused, [tensor.float().to(DEVICE) for tensor in tensors], closes, bf16)
    return errors(ours, {name: value.detach() for name, value in expected.items()})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_and_gradients_equal_the_plain_code(case):
    deviations = compare(case)
    assert max(deviations.values()) < 2e-6, deviations


def test_bf16_rounds_the_operands_of_products():
    deviations = compare(CASES["whole"], bf16=True)
    assert min(deviations.values()) > 5e-4, deviations
    assert max(deviations.values()) < 1e-2, deviations


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not know tf32")
def test_products_of_tf32():
    torch.set_float32_matmul_precision("high")
    try:
        deviations = compare(CASES["whole"])
    finally:
        torch.set_float32_matmul_precision("highest")
    assert 1e-5 < max(deviations.values()) < 3e-3, deviations


def test_initial_weights_receive_a_gradient_from_a_later_segment(fused):
    """The segment begins inside a mini-batch, covers the next, and ends in a third."""
    layer = small_model().double().model.layers[0].seq_modeling_block
    y = torch.randn(1, 13, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    results_of_both = []
    for module in (layer, small_model().to(DEVICE).model.layers[0].seq_modeling_block):
        part = y.to(module.W1)
        with torch.no_grad():
            _, state = layer(y[:, :6], layer.initial_state(1))
        state = {name: tensor.to(module.W1) for name, tensor in state.items()}
        with pytest.MonkeyPatch.context() as patch:
            if module is layer:
                patch.setattr("tttkit.models.ttt_scan.fused_obstacle", lambda *_: "the plain code")
            output, after = module(part[:, 6:], state, 6)
        total = output.sum() + after["delta1"].square().sum() + after["pending1"].sum()
        names, parameters = zip(*module.named_parameters(), strict=True)
        gradients = dict(zip(names, torch.autograd.grad(total, parameters), strict=True))
        results_of_both.append({"output": output, **after, **gradients})
    expected, fast = results_of_both
    assert all(expected[name].abs().max() > 1e-3 for name in ("W1", "b1"))
    worst = errors(fast, {name: value.detach() for name, value in expected.items()})
    assert max(worst.values()) < 1e-5, worst


def test_autocast_chooses_how_products_round(fused, monkeypatch):
    seen = []
    import tttkit.models.ttt_linear_op as op

    monkeypatch.setattr(
        op, "scan_linear_fused", lambda chunks, *rest: seen.append(chunks) or scan_linear(chunks, *rest)
    )
    model, ids = small_model().to(DEVICE), random_ids(1, 4).to(DEVICE)
    model(ids)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        model(ids)
    assert [chunks.bf16 for chunks in seen] == [False, False, True, True]
    assert {chunks.queries.dtype for chunks in seen} == {torch.float32}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own check causes it
def test_torch_accepts_the_operators():
    """Torch checks the schema, autograd registration, fake kernels and tracing."""
    from tttkit.models.ttt_linear_op import ttt_linear_scan, ttt_linear_scan_backward

    tensors = [tensor.float().to(DEVICE) for tensor in draw(**{**CASES["tail-of-pending"], "M": 1})]
    pending, options = tensors[8], (1e-6, False, False)
    for tensor in tensors:
        tensor.requires_grad_()  # after the cast: torch looks at the gradients of leaves
    torch.library.opcheck(ttt_linear_scan, (*tensors[:8], pending, *options, True))
    torch.library.opcheck(
        ttt_linear_scan, (*tensors[:8], pending, *options, False), test_utils=("test_schema", "test_faketensor")
    )
    with torch.no_grad():
        output, after, starts = ttt_linear_scan(*tensors[:8], pending, *options, True)
        torch.library.opcheck(
            ttt_linear_scan_backward, (*tensors[:7], starts, pending, output, after, *options),
            test_utils=("test_schema", "test_faketensor"),
        )  # fmt: skip


def metadata(tensors):
    return [(tensor.shape, tensor.stride(), tensor.dtype, tensor.device.type) for tensor in tensors]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fake_kernels_give_what_the_real_ones_give(case):
    """The shapes, strides and dtypes are equal, which a compiled step relies on."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from tttkit.models.ttt_linear_op import ttt_linear_scan, ttt_linear_scan_backward

    tensors = [tensor.float().to(DEVICE) for tensor in draw(**case)]
    pending, closes = (tensors[8] if len(tensors) > 8 else None), case.get("closes", True)

    def run(convert):
        inputs = [convert(tensor) for tensor in tensors[:8]]
        waiting = None if pending is None else convert(pending)
        described = []
        for keep in (False, True):
            output, after, starts = ttt_linear_scan(*inputs, waiting, 1e-6, closes, False, keep)
            described += metadata((output, after, starts))
        for gradient in (after, None):
            options = (starts, waiting, output, gradient, 1e-6, closes, False)
            described += metadata(ttt_linear_scan_backward(*inputs[:7], *options))
        return described

    with torch.no_grad(), FakeTensorMode() as mode:
        fake = run(mode.from_tensor)
    with torch.no_grad():
        assert fake == run(lambda tensor: tensor)


def test_kernels_run_on_the_device_of_their_tensors(monkeypatch):
    """It need not be torch's current device."""
    seen, plain = [], torch.cuda.device_of
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: seen.append(tensor.shape) or plain(tensor))
    compare(CASES["tail"])
    assert seen == [(1, 2, 7, 16)] * 2


def test_nothing_is_kept_without_gradients(fused):
    from tttkit.models.ttt_linear_op import ttt_linear_scan

    tensors = [tensor.float().to(DEVICE) for tensor in draw(2, 1, 3, 8)]
    *_, starts = ttt_linear_scan(*tensors, None, 1e-6, True, False, False)
    assert starts.numel() == 0


def test_a_compiled_block_runs_the_kernels(fused):
    model = small_model(num_hidden_layers=1).to(DEVICE)
    block = model.model.layers[0]
    x = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(5)).to(DEVICE).requires_grad_()
    compiled = torch.compile(Block.forward, dynamic=False, fullgraph=True, backend="aot_eager")
    results_of_both = []
    for run in (Block.forward, compiled):
        output, _ = run(block, x)
        results_of_both.append([output, *torch.autograd.grad(output.square().sum(), [x, *block.parameters()])])
    for eager, traced in zip(*results_of_both, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-5, atol=1e-6)
