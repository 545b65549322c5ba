"""The fast weights of a TTT layer while it reads a segment, and the rules that apply between mini-batches.

Between two mini-batches the fast weights W may keep moving (momentum), may be brought back to the norm of their learned
start W_0, and may be pulled towards it (`state_decay`). Shapes: B batch, H heads, M = B x H, and (M, rows + 1, columns)
for every matrix of the inner model, whose last row is the bias.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tttkit.models.ttt_inner import Chunks, Matrices

if TYPE_CHECKING:
    from tttkit.models.state import LayerState

_EPS = 1e-5
"""Added to a norm that is divided by, as in LaCT."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastState:
    """Fast weights and what belongs to them, in the shape in which the inner loop uses them."""

    initial: Matrices
    """The learned start W_0."""
    weights: Matrices
    """W at the start of the current mini-batch."""
    pending: Matrices | None
    """The sum of steps of the current mini-batch; None if it has no tokens yet."""
    velocity: Matrices | None
    """The change of W in the last whole mini-batch; None without momentum."""
    log_decay: Tensor | None
    """Logarithm of the share that the tokens of the current mini-batch keep, (M); None if it has no tokens yet."""

    @staticmethod
    def of(initial: Matrices, batch: int, state: LayerState | None, *, momentum: bool, is_border: bool) -> FastState:
        """Read the state of a layer, given W_0, (H, rows + 1, columns) each; `state` None begins a text.

        `is_border` says whether a mini-batch begins, for which nothing is pending.
        """
        start = tuple(weight.expand(batch, *weight.shape).flatten(0, 1) for weight in initial)
        weights, pending, velocity, log_decay = start, None, None, None
        if state is not None:
            names = range(1, len(initial) + 1)
            weights = tuple(
                (weight + state[f"delta{i}"]).flatten(0, 1) for i, weight in zip(names, initial, strict=True)
            )
            if not is_border:
                pending = tuple(state[f"pending{i}"].flatten(0, 1) for i in names)
                log_decay = state["pending_decay"].flatten() if "pending_decay" in state else None
            if momentum:
                velocity = tuple(state[f"velocity{i}"].flatten(0, 1) for i in names)
        elif momentum:
            velocity = tuple(torch.zeros_like(weight) for weight in start)
        return FastState(initial=start, weights=weights, pending=pending, velocity=velocity, log_decay=log_decay)

    def to_layer_state(self, batch: int) -> LayerState:
        """Return the tensors of the layer's state, (B, H, rows + 1, columns) each: W as its difference from W_0."""
        state: LayerState = {}
        for i, (weight, start) in enumerate(zip(self.weights, self.initial, strict=True)):
            delta = weight - start
            tensors = {"delta": delta, "pending": torch.zeros_like(delta) if self.pending is None else self.pending[i]}
            if self.velocity is not None:
                tensors["velocity"] = self.velocity[i]
            state |= {f"{name}{i + 1}": x.view(batch, -1, *delta.shape[1:]) for name, x in tensors.items()}
        return state

    def pulled(self, kept: Tensor) -> FastState:
        """Return the state with W pulled towards its start: W_0 + kept (W - W_0)."""
        pairs = zip(self.initial, self.weights, strict=True)
        return dataclasses.replace(self, weights=tuple(torch.lerp(start, weight, kept) for start, weight in pairs))

    def moved(self, share: Tensor) -> FastState:
        """Return the state with W moved by a share, (M, 1, 1), of its last change: Nesterov's momentum."""
        pairs = zip(self.weights, self.velocity or (), strict=True)
        return dataclasses.replace(self, weights=tuple(weight + share * change for weight, change in pairs))

    def learned(self, weights: Matrices, pending: Matrices | None, chunks: Chunks, share: Tensor | None) -> FastState:
        """Return the state after the tokens of `chunks`, from W and the pending sum after them.

        `share` is that of `moved`; with it, the tokens belong to one mini-batch.
        """
        velocity, decay = self.velocity, chunks.decay
        if share is not None and velocity is not None and chunks.closes:
            triples = zip(weights, self.weights, velocity, strict=True)
            velocity = tuple(new - old + share * change for new, old, change in triples)
        log_decay = None if decay is None or chunks.closes else decay.log[-1, :, -1]
        return dataclasses.replace(self, weights=weights, pending=pending, velocity=velocity, log_decay=log_decay)

    def rescaled(self) -> FastState:
        """Return the state with the weights of every output unit, without its bias, at the norm of their start."""
        pairs = zip(self.weights, self.initial, strict=True)
        return dataclasses.replace(self, weights=tuple(_rescale(weight, start) for weight, start in pairs))


def _rescale(weight: Tensor, start: Tensor) -> Tensor:
    matrix, bias = weight[:, :-1], weight[:, -1:]
    wanted, norm = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (start[:, :-1], matrix))
    return torch.cat((matrix * (wanted / (norm + _EPS)), bias), dim=1)
