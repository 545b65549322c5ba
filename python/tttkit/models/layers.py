"""Blocks that all models share: RMSNorm, rotary positions, SwiGLU, causal convolution.

Shapes: B batch, L length, D width, H heads, d head width, I feed-forward width. Norms and positions are computed in
float32 (float64 where the model is float64), whatever autocast says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.linear import Linear

if TYPE_CHECKING:
    from tttkit.models.state import LayerState


def widen(x: Tensor) -> Tensor:
    """The tensor in float32, or as it is where it is float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class SequenceLayer(nn.Module):
    """What mixes tokens in a block, the one part in which the architectures differ; it is built from a ModelConfig."""

    def reset_parameters(self) -> None:
        """Set the parameters that the model's common rule (linear, norm, convolution) does not cover: here none."""

    def initial_state(self, batch_size: int) -> LayerState:
        """State before any text, batch first."""
        raise NotImplementedError

    def forward(
        self, y: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read a segment (B, L, D) that starts at `position`; `state` None means a fresh one.

        Returns the layer's output (B, L, D), with `last` that of the last positions only, (B, last, D), and the state
        after the segment, empty where none was given.
        """
        raise NotImplementedError


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last dimension, then scale: (…, D) to (…, D), at least float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (…, D)."""
        return F.rms_norm(widen(x), self.weight.shape, widen(self.weight), self.eps)


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (L, d/2) float32, of `position * theta^(-2m/d)` for integer positions (L)."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions[:, None].float() * theta**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (2m, 2m+1) of the last dimension d; cos and sin broadcast to (…, d/2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class SwiGLU(nn.Module):
    """Feed-forward `down(silu(gate y) * up y)`, (B, L, D) to (B, L, D)."""

    def __init__(self, width: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, intermediate)
        self.up_proj = Linear(width, intermediate)
        self.down_proj = Linear(intermediate, width)

    def forward(self, y: Tensor) -> Tensor:
        """Apply to (B, L, D)."""
        down: Tensor = self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))
        return down


def causal_convolution(x: Tensor, conv: nn.Conv1d, history: Tensor | None) -> Tensor:
    """Depthwise convolution of (B, L, D) over L that looks back only; the last tap multiplies the current token.

    `history` holds the kernel - 1 inputs before x, (B, kernel - 1, D); None means the text starts here (zeros).
    """
    taps = conv.kernel_size[0] - 1
    before = x.new_zeros(x.shape[0], taps, x.shape[2]) if history is None else history.to(x.dtype)
    mixed: Tensor = conv(torch.cat((before, x), dim=1).transpose(1, 2))
    return mixed.transpose(1, 2)


def convolution_history(x: Tensor, conv: nn.Conv1d, history: Tensor | None) -> Tensor:
    """The kernel - 1 inputs that the next call of `causal_convolution` needs, (B, kernel - 1, D)."""
    taps = conv.kernel_size[0] - 1
    before = x.new_zeros(x.shape[0], taps, x.shape[2]) if history is None else history.to(x.dtype)
    return torch.cat((before, x), dim=1)[:, x.shape[1] :]


def depthwise(width: int, kernel: int) -> nn.Conv1d:
    """An unpadded depthwise convolution with bias, weight (D, 1, kernel)."""
    return nn.Conv1d(width, width, kernel, groups=width)


class PreConvolution(nn.Module):
    """Norm and short causal convolution in front of the sequence layer, (B, L, D) to (B, L, D)."""

    def __init__(self, width: int, kernel: int, eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps)
        self.conv = depthwise(width, kernel)

    def forward(self, x: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The result for (B, L, D), and the history that the next segment needs."""
        y = self.norm(x)
        return causal_convolution(y, self.conv, history), convolution_history(y, self.conv, history)
