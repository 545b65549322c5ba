"""Linear maps without a bias; large ones through oneDNN on a CPU where that is faster than MKL, which `nn.Linear` uses.

On an AMD EPYC it brings the reference model from 1.14 to 1.18 times the speed of the official code
(`benchmarks/training.py`). On an Intel Xeon its products take up to 25 % longer than MKL's,
which is left alone there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

_LEAST_ROWS = 32
"""Below so many a product reads the weights and does little else."""
_LEAST_WEIGHTS = 1 << 19
"""Below so many oneDNN is slower: 0.7 times as fast at 128 x 128, 1.0 at 512 x 512, 1.07 at 768 x 2,048."""
_AVAILABLE = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_intel(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor is of the maker of MKL, by a file as Linux has it; where there is none, it is not."""
    try:
        return "GenuineIntel" in cpuinfo.read_text()
    except OSError:
        return False


_IS_FASTER = not is_intel()


class Linear(nn.Linear):
    """`y = x W^T`, (…, in) to (…, out): as `nn.Linear` without a bias, parameters and gradients included."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (…, in)."""
        if _onednn_takes(x, self.weight):
            mapped: Tensor = _OneDnnLinear.apply(x, self.weight)
            return mapped
        return F.linear(x, self.weight)


def _onednn_takes(x: Tensor, weight: Tensor) -> bool:
    return (
        _AVAILABLE
        and _IS_FASTER
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.numel() >= _LEAST_WEIGHTS
        and x.numel() >= _LEAST_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
    )


@torch.library.custom_op("tttkit::product", mutates_args=())
def _product(x: Tensor, weight: Tensor) -> Tensor:
    """`x W^T`, (…, in) and (out, in) to (…, out), of any strides. An operator of ours: Inductor would refuse oneDNN's
    for weights that are not constant."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # noqa: SLF001
    return product


@_product.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = x.new_empty(*x.shape[:-1], weight.shape[0])
    return product


class _OneDnnLinear(torch.autograd.Function):
    """The products of a linear map and of its gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        product: Tensor = _product(x, weight)
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        grad_x = _product(grad, weight.t()) if needs_x else None
        if not needs_weight:
            return grad_x, None
        return grad_x, _product(grad.flatten(0, -2).t(), x.flatten(0, -2).t())
