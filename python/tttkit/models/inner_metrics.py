"""What the inner loops of a TTT model do with a text: their loss before and after learning, how far they move.

A finite training loss can hide an inner loop that diverges; these figures show it. Shapes: B batch, L length, H heads,
N layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tttkit.models.ttt import TTTLayer

if TYPE_CHECKING:
    from tttkit.models.language_model import LanguageModel
    from tttkit.models.layers import SequenceLayer
    from tttkit.models.state import LayerState, ModelState

Inputs = tuple[TTTLayer, Tensor, "LayerState | None", int]


@dataclass(frozen=True, kw_only=True)
class InnerMetrics:
    """Means over rows, heads and layers by position in the text, and norms by layer; plain floats.

    The inner loss of a token is 1/2 |f(k) - v|^2 per feature. `before` takes the fast weights at the start of the
    token's mini-batch, `after` those that have learned from the mini-batch up to and with the token itself.
    """

    before: list[float]  # (L)
    after: list[float]  # (L)
    fast_weight_norm: list[float]  # (N): root mean square over rows of |W - its learned start|, all heads together

    def to_record(self) -> dict[str, Any]:
        """Keys for metrics.jsonl, rounded to five digits."""
        values = {
            "inner_loss_before": self.before, "inner_loss_after": self.after, "fast_weight_norm": self.fast_weight_norm
        }  # fmt: skip
        return {name: [float(f"{value:.5g}") for value in found] for name, found in values.items()}


@torch.no_grad()
def inner_metrics(model: LanguageModel, input_ids: Tensor, state: ModelState | None = None) -> InnerMetrics:
    """Read (B, L) ids from `state` (None: a fresh one) and watch every inner loop. Costs about two forward passes.

    Raises ValueError for a model without an inner loop.
    """
    seen: list[Inputs] = []

    def watch(layer: SequenceLayer, arguments: tuple[Any, ...]) -> None:
        assert isinstance(layer, TTTLayer)
        y, before, position = (*arguments, None, 0)[:3]
        seen.append((layer, y, before, position or 0))

    layers = [module for module in model.modules() if isinstance(module, TTTLayer)]
    if not layers:
        raise ValueError(f"model must have TTT layers, got {model.config.name}")
    handles = [layer.register_forward_pre_hook(watch) for layer in layers]
    try:
        _, after_state = model.advance(input_ids, model.initial_state(input_ids.shape[0]) if state is None else state)
    finally:
        for handle in handles:
            handle.remove()
    losses = torch.stack([torch.stack(layer.inner_losses(y, before, at)) for layer, y, before, at in seen])  # (N, 2, L)
    norms = [_norm(layer) for layer in after_state.layers]
    before_after = losses.mean(0).tolist()
    return InnerMetrics(before=before_after[0], after=before_after[1], fast_weight_norm=norms)


def _norm(layer: LayerState) -> float:
    squares = sum(tensor.float().square().sum() for name, tensor in layer.items() if name.startswith("delta"))
    return float((squares / layer["delta1"].shape[0]) ** 0.5)
