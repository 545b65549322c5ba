"""A memory and sliding-window attention beside it (`model.parallel_window`), as LaCT has them (arXiv 2505.23884).

Both read the same text and are added. A learned gate, which starts almost closed, weighs what the memory returns, so
that training begins with attention to the window. The window sees the tokens that a memory with a large inner
mini-batch has not learned yet.

Shapes: B batch, L length, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.carried_window import CarriedWindow
from tttkit.models.layers import FLOAT_BYTES, SequenceLayer, linear_weights

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState


class ParallelWindow(SequenceLayer):
    """The sum of window attention and a gated memory, a sequence layer that has a state; (B, L, D) to (B, L, D).

    The gate of a token has one number for each D / H neighbouring channels of the memory's output: silu of a projection
    of the token, as in LaCT. The state holds the tensors of both.
    """

    has_state = True
    has_diagnostics = True

    def __init__(self, config: ModelConfig, memory: SequenceLayer) -> None:
        super().__init__(config)
        self.memory = memory
        self.window = CarriedWindow(config)
        self.memory_gate_proj = nn.Linear(config.hidden_size, config.num_attention_heads)

    def reset_parameters(self) -> None:
        """Leave the gate almost closed: without a bias, silu of small numbers is small."""
        nn.init.zeros_(self.memory_gate_proj.bias)

    def reset_projections(self) -> None:
        """Change the projections of the memory whose initial values are its own."""
        self.memory.reset_projections()

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: that of the memory, and an empty window."""
        return {**self.memory.initial_state(batch_size), **self.window.initial_state(batch_size)}

    def forward(
        self, y: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read a segment with both; see `SequenceLayer.forward`."""
        learned, after = self.memory(y, state, position, last)
        read, window = self.window(y, state, position, last)
        gate = F.silu(self.memory_gate_proj(y if last is None else y[:, -last:]))[..., None]  # (B, L, H, 1)
        gated = torch.unflatten(learned, -1, (gate.shape[-2], -1)) * gate
        return read + gated.flatten(-2), {**after, **window}

    def decayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what weight decay applies to in both, and the projection of the gate."""
        yield from self.memory.decayed_parameters()
        yield from self.window.decayed_parameters()
        yield from linear_weights(self.memory_gate_proj)

    def multiply_adds_per_token(self, length: int) -> int:
        """Count those of both."""
        return self.memory.multiply_adds_per_token(length) + self.window.multiply_adds_per_token(length)

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients: the larger of both, and the memory's output."""
        largest = max(self.memory.bytes_per_token(), self.window.bytes_per_token())
        return largest + FLOAT_BYTES * self.config.hidden_size

    def diagnostics(self, y: Tensor, before: LayerState | None, position: int, after: LayerState) -> dict[str, Tensor]:
        """Return the figures of the memory."""
        return self.memory.diagnostics(y, before, position, after)

    def compiled_note(self, device_type: str, dtype: torch.dtype) -> str:
        """Return the note of the memory."""
        return self.memory.compiled_note(device_type, dtype)
