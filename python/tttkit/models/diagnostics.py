"""Collect the figures that the layers of a model report while it reads a text, for metrics.jsonl.

A finite training loss can hide an inner loop that diverges; the figures of the TTT layers show it. Shapes: B batch,
L length, N layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tttkit.models.language_model import LanguageModel
    from tttkit.models.layers import SequenceLayer
    from tttkit.models.state import LayerState, ModelState


def diagnose(
    model: LanguageModel, layers: Sequence[SequenceLayer], input_ids: Tensor, state: ModelState | None
) -> dict[str, list[float]]:
    """Read (B, L) ids from `state` (None: the initial one) and collect the `diagnostics` of the sequence layers.

    Return plain floats by name, rounded to five digits. A figure per position becomes its mean over the layers, (L);
    a figure per layer is listed by layer, (N). Costs about two forward passes; nothing if no layer reports anything.
    """
    if not any(layer.has_diagnostics for layer in layers):
        return {}
    reports, _ = observe(model, layers, input_ids, state)
    names = dict.fromkeys(name for report in reports.values() for name in report)
    return {name: _combined([report[name] for report in reports.values() if name in report]) for name in names}


def observe(
    model: LanguageModel, layers: Sequence[SequenceLayer], input_ids: Tensor, state: ModelState | None
) -> tuple[dict[int, dict[str, Tensor]], ModelState]:
    """Read (B, L) ids as `diagnose` does; return the figures of each layer that reports any, and the state after."""
    reporting = [index for index, layer in enumerate(layers) if layer.has_diagnostics]
    inputs: dict[SequenceLayer, tuple[Tensor, LayerState | None, int]] = {}

    def keep(layer: SequenceLayer, arguments: tuple[Any, ...]) -> None:
        y, before, position = (*arguments, None, 0)[:3]
        inputs[layer] = (y, before, position or 0)

    handles = [layers[index].register_forward_pre_hook(keep) for index in reporting]
    try:
        _, after = model.advance(input_ids, model.initial_state(input_ids.shape[0]) if state is None else state)
    finally:
        for handle in handles:
            handle.remove()
    reports = {index: layers[index].diagnostics(*inputs[layers[index]], after.layers[index]) for index in reporting}
    return reports, after


def _combined(figures: list[Tensor]) -> list[float]:
    """Average figures per position over the layers, and list figures per layer."""
    stacked = torch.stack(figures)
    values: list[float] = (stacked.mean(0) if stacked.ndim > 1 else stacked).tolist()
    return [float(f"{value:.5g}") for value in values]
