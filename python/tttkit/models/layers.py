"""Building blocks that all models share: RMSNorm, rotary positions, SwiGLU, causal convolution, the sequence layer.

Shapes: B batch, L length, D width, H heads, d head width, I feed-forward width. Norms and positions are computed in
float32 (float64 if the model is float64), regardless of autocast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState

FLOAT_BYTES = 4
"""Bytes of a float32 number."""


def upcast(x: Tensor) -> Tensor:
    """Return the tensor in float32, or unchanged if it is float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), of the same shape.

    It is computed on the flat tensor: torch.compile takes the strides of the derivative of softplus for those of x, and
    fails if the gradient that arrives has others.
    """
    return F.softplus(x.flatten()).view(x.shape)


def linear_weights(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the weight matrices of all `nn.Linear` modules inside `module`."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield cast("nn.Parameter", part.weight)


class SequenceLayer(nn.Module):
    """The part of a block that mixes tokens, and the only part in which the architectures differ.

    A subclass computes (`forward`, `initial_state`) and declares its properties to the rest of the program by the
    attributes and methods below. Nothing outside `models/` asks for the name of an architecture.
    """

    has_state: ClassVar[bool] = False
    """Whether the state after one window may be the initial state of the next (`train.initial_state = contiguous`).
    Equal to `ModelConfig.has_state`."""
    has_diagnostics: ClassVar[bool] = False
    """Whether `diagnostics` returns anything."""

    sees_whole_past: ClassVar[bool] = False
    """Whether the layer attends to all earlier tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    float32_projections: ClassVar[tuple[str, ...]] = ()
    """Names of the linear projections that the layer computes in float32 under autocast too."""
    layer_index: int = 0
    """Number of blocks below this layer, set when the model is built."""

    def reset_parameters(self) -> None:
        """Initialise the parameters that the common rule (linear, norm, convolution) does not cover; here none."""

    def reset_projections(self) -> None:
        """Change projections whose initial values are not those of the common rule, which was applied; here none."""

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text, batch first."""
        raise NotImplementedError

    def forward(
        self, y: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read a segment (B, L, D) that starts at `position`; `state` None means the initial state.

        Return the layer's output (B, L, D) and the state after the segment, which is empty if none was given. With
        `last`, return the output of the last positions only, (B, last, D).
        """
        raise NotImplementedError

    def memories(self, state: LayerState) -> list[Tensor]:
        """Return what a state remembers in a fixed size, (B, H, ...) each: `memory` or `delta*`; none for attention."""
        return [tensor for name, tensor in state.items() if name == "memory" or name.startswith("delta")]

    def decayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the optimizer's weight decay applies to: here the linear projections."""
        return linear_weights(self)

    def multiply_adds_per_token(self, length: int) -> int:
        """Return the multiply-adds per token of one forward pass over `length` tokens, without the projections."""
        raise NotImplementedError

    def flops_per_token(self, length: int) -> float:
        """Return the floating-point operations of forward and backward per token of a text of `length` tokens.

        A multiply-add costs two in the forward pass and four in the backward pass.
        """
        projections = sum(weight.numel() for weight in linear_weights(self))
        return 6.0 * (projections + self.multiply_adds_per_token(length))

    def state_bytes(self, batch_size: int, length: int = 0) -> int:  # noqa: ARG002 - a cache grows with the length
        """Return the bytes of the state of `batch_size` rows after `length` tokens."""
        one_row = self.initial_state(1).values()
        return batch_size * sum(tensor.numel() * tensor.element_size() for tensor in one_row)

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients, in bytes per token; measured at 125M."""
        return FLOAT_BYTES * 22 * self.config.hidden_size

    def diagnostics(
        self,
        y: Tensor,  # noqa: ARG002
        before: LayerState | None,  # noqa: ARG002
        position: int,  # noqa: ARG002
        after: LayerState,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Return named figures about a segment `y` (B, L, D): one per position, (L), or one for the layer, a scalar.

        `before` and `after` are the layer's states around the segment, which starts at `position`.
        """
        return {}

    def compiled_note(self, device_type: str, dtype: torch.dtype) -> str:  # noqa: ARG002
        """Return a note about this layer for the report of how the compiled model runs."""
        return ""


def memory_norm(*memories: Tensor) -> Tensor:
    """Return the root mean square over rows of the norm of memories (B, …), all heads together: a scalar."""
    squares = torch.stack([memory.float().square().sum() for memory in memories]).sum()
    return (squares / memories[0].shape[0]).sqrt()


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last dimension, then scale: (…, D) to (…, D), float32 or float64."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (…, D)."""
        return F.rms_norm(upcast(x), self.weight.shape, upcast(self.weight), self.eps)


def rotary_tables(
    positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, each (…, L, d/2), of `position * theta^(-2m/d)` for whole positions (…, L)."""
    exponents = torch.arange(0, head_dim, 2, dtype=dtype, device=positions.device) / head_dim
    angles = positions[..., None].to(dtype) * theta**-exponents
    return angles.cos(), angles.sin()


Rotation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""How rotary positions turn the last dimension d of a tensor, given cosine and sine: `rotate` or `rotate_halves`."""


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (2m, 2m+1) of the last dimension d; cos and sin broadcast to (…, d/2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (m, m + d/2) of the last dimension d; cos and sin broadcast to (…, d/2)."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class SwiGLU(nn.Module):
    """Feed-forward layer `down(silu(gate y) * up y)`, (B, L, D) to (B, L, D)."""

    def __init__(self, width: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, intermediate, bias=False)
        self.up_proj = nn.Linear(width, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, width, bias=False)

    def forward(self, y: Tensor) -> Tensor:
        """Apply the layer to (B, L, D)."""
        down: Tensor = self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))
        return down


def causal_convolution(x: Tensor, conv: nn.Conv1d, history: Tensor | None) -> Tensor:
    """Convolve (B, L, D) depthwise over L, looking back only; the last tap multiplies the current token.

    `history` holds the kernel - 1 inputs before x, (B, kernel - 1, D); None means that the text starts here (zeros).
    """
    taps = conv.kernel_size[0] - 1
    before = x.new_zeros(x.shape[0], taps, x.shape[2]) if history is None else history.to(x.dtype)
    mixed: Tensor = conv(torch.cat((before, x), dim=1).transpose(1, 2))
    return mixed.transpose(1, 2)


def convolution_history(x: Tensor, conv: nn.Conv1d, history: Tensor | None) -> Tensor:
    """Return the kernel - 1 inputs that the next call of `causal_convolution` needs, (B, kernel - 1, D)."""
    taps = conv.kernel_size[0] - 1
    before = x.new_zeros(x.shape[0], taps, x.shape[2]) if history is None else history.to(x.dtype)
    return torch.cat((before, x), dim=1)[:, x.shape[1] :]


def depthwise(width: int, kernel: int, *, bias: bool = True) -> nn.Conv1d:
    """Build an unpadded depthwise convolution, weight (D, 1, kernel)."""
    return nn.Conv1d(width, width, kernel, groups=width, bias=bias)


def gate_of_time_steps(num: int) -> Tensor:
    """Draw biases (num), float32, whose softplus is log-uniform in 0.001 … 0.1: the initial time steps of Mamba."""
    steps = torch.exp(torch.rand(num) * math.log(0.1 / 0.001) + math.log(0.001)).clamp_min(1e-4)
    # the inverse of softplus
    return steps + torch.log(-torch.expm1(-steps))


class PreConvolution(nn.Module):
    """Norm and short causal convolution in front of the sequence layer, (B, L, D) to (B, L, D)."""

    def __init__(self, width: int, kernel: int, eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps)
        self.conv = depthwise(width, kernel)

    def forward(self, x: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the result for (B, L, D), and the history that the next segment needs."""
        y = self.norm(x)
        return causal_convolution(y, self.conv, history), convolution_history(y, self.conv, history)
