"""Titans with a linear memory: gradient descent with momentum and forgetting (Behrouz et al., arXiv 2501.00663).

The layer around the operator is that of DeltaNet with an output gate. The learning rate of a token is at most 1 / C, so
that a mini-batch of C equal keys of length 1 cannot diverge; forgetting starts at a share of sigmoid(-5) per token.

Shapes: B batch, L length, D width, H heads, dk and dv their widths, C inner mini-batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.deltanet import DeltaNet
from tttkit.models.layers import upcast
from tttkit.models.operators import titans
from tttkit.models.operators.titans import TitansState

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState

_FORGETTING = -5.0
"""Initial bias of the forgetting: a token is half forgotten after about 100 others."""


class Titans(DeltaNet):
    """Short convolutions, the linear memory of Titans, a norm per head and a gate, (B, L, D) to (B, L, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, heads = config.hidden_size, config.num_attention_heads
        del self.b_proj
        self.theta_proj = nn.Linear(width, heads)
        self.eta_proj = nn.Linear(width, heads)
        self.alpha_proj = nn.Linear(width, heads)
        self.g_proj = nn.Linear(width, self.v_proj.out_features, bias=False)

    def reset_parameters(self) -> None:
        """Start with half the largest rate, a momentum of one half, and little forgetting."""
        super().reset_parameters()
        nn.init.zeros_(self.theta_proj.bias)
        nn.init.zeros_(self.eta_proj.bias)
        nn.init.constant_(self.alpha_proj.bias, _FORGETTING)

    def initial_state(self, batch_size: int) -> LayerState:
        """Return the state before any text: memory and momentum of zero, and zeros as past inputs."""
        state = super().initial_state(batch_size)
        empty = state["memory"]
        return {**state, "momentum": empty, "pending_memory": empty}

    def forward(
        self, y: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Learn from a segment and read the memory; see `SequenceLayer.forward`."""
        after: LayerState = {}
        size, heads = self.config.mini_batch_size, self.num_value_heads
        q, k, v = (self._convolved(name, y, state, after, heads) for name in ("q", "k", "v"))
        q, k = (_unit(x) for x in (q, k))
        rates, kept, forgotten = (
            torch.sigmoid(upcast(part(y))) for part in (self.theta_proj, self.eta_proj, self.alpha_proj)
        )
        before = None
        if state is not None:
            offset = position % size
            started = state["pending_memory"] if offset else state["memory"]
            before = TitansState.of(state["memory"], state["momentum"], started, offset)
        read, learned = titans(q, k, v, rates / size, kept, forgotten, chunk=size, initial_state=before)
        if state is not None:
            memory, momentum = learned
            # at the border of a mini-batch nothing is pending
            started = learned.started if learned.offset else torch.zeros_like(memory)
            after.update(memory=memory, momentum=momentum, pending_memory=started)
        if last is not None:
            y, read = y[:, -last:], read[:, -last:]
        return self.o_proj(self._output(read, y).flatten(2)), after

    def multiply_adds_per_token(self, length: int) -> int:
        """Count the products of the operator in chunks of C tokens: 6 dk dv + (3 dk + 3/2 dv + C) C per head."""
        key, value = self.key_head_dim, self.value_head_dim
        size = min(length, max(32, self.config.mini_batch_size))
        return self.num_value_heads * (6 * key * value + (3 * key + 3 * value // 2 + size) * size)

    def _output(self, read: Tensor, y: Tensor) -> Tensor:
        gate: Tensor = F.silu(upcast(self.g_proj(y)))
        return super()._output(read, y) * gate.reshape(read.shape)


def _unit(x: Tensor) -> Tensor:
    """Bring the last dimension to length 1, in full precision."""
    x = upcast(x)
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
