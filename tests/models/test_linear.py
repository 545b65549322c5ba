"""Large linear maps go through oneDNN: the same figures, gradients included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tttkit.models import linear

IN, OUT = 768, 704
FORMS = {
    "rows": lambda: torch.randn(40, IN),
    "batches": lambda: torch.randn(2, 33, IN),
    "strided": lambda: torch.randn(IN, 50).t(),
}


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the products that oneDNN is asked for, on whatever processor."""
    if not linear._AVAILABLE:
        pytest.skip("torch comes without oneDNN here")
    monkeypatch.setattr(linear, "_IS_FASTER", True)
    seen: list[tuple[int, ...]] = []
    product = linear._product

    def watched(x: Tensor, weight: Tensor) -> Any:
        seen.append((*x.shape[:-1], weight.shape[0]))
        return product(x, weight)

    monkeypatch.setattr(linear, "_product", watched)
    return seen


@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_gradients_are_those_of_nn_linear(form: str, products: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    ours, theirs = linear.Linear(IN, OUT), nn.Linear(IN, OUT, bias=False)
    theirs.load_state_dict(ours.state_dict())
    x = FORMS[form]()
    found = []
    for layer in (ours, theirs):
        read = x.clone().requires_grad_()
        y = layer(read)
        y.backward(torch.ones(()).expand(y.shape) * torch.linspace(-1, 1, OUT))
        found.append((y, read.grad, layer.weight.grad))
    assert len(products) == 3
    for mine, other in zip(*found, strict=True):
        assert mine.shape == other.shape
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-4)


def test_only_what_needs_a_gradient_is_multiplied(products: list[tuple[int, ...]]) -> None:
    layer, x = linear.Linear(IN, OUT), torch.randn(40, IN)
    layer(x).sum().backward()
    assert products == [(40, OUT), (OUT, IN)]
    layer.requires_grad_(False)(x.requires_grad_()).sum().backward()
    assert products[2:] == [(40, OUT), (40, IN)]


@pytest.mark.parametrize(
    ("size", "rows", "dtype"), [(128, 64, torch.float32), (768, 4, torch.float32), (768, 64, torch.float64)]
)
def test_small_maps_few_rows_and_other_precisions_stay_with_torch(
    size: int, rows: int, dtype: torch.dtype, products: list[tuple[int, ...]]
) -> None:
    linear.Linear(size, size).to(dtype)(torch.randn(rows, size, dtype=dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear.Linear(IN, OUT)(torch.randn(40, IN)).dtype == torch.bfloat16
    assert products == []


def test_the_operator_keeps_what_torch_compile_asks_of_it() -> None:
    if not linear._AVAILABLE:
        pytest.skip("torch comes without oneDNN here")
    torch.library.opcheck(linear._product, (torch.randn(2, 40, 96), torch.randn(64, 96)))
    layer = linear.Linear(IN, OUT)
    run = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 33, IN, requires_grad=True)
    run(x).square().mean().backward()
    expected = (x @ layer.weight.t()).square().mean()
    (grad,) = torch.autograd.grad(expected, layer.weight)
    torch.testing.assert_close(layer.weight.grad, grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("vendor", "expected"), [("GenuineIntel", True), ("AuthenticAMD", False), (None, False)])
def test_a_processor_of_the_maker_of_mkl_is_known(tmp_path, vendor: str | None, expected: bool) -> None:
    file = tmp_path / "cpuinfo"
    if vendor:
        file.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 6\n")
    assert linear.is_intel(file) == expected


def test_where_mkl_is_faster_it_is_left_alone(products: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_IS_FASTER", False)
    linear.Linear(IN, OUT)(torch.randn(40, IN)).sum().backward()
    assert not products
