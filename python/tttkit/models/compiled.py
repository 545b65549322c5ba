"""The model as the trainer runs it: blocks through torch.compile where that is possible and pays."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils._triton import has_triton

from tttkit.models.language_model import Block
from tttkit.models.ttt_scan import fused_obstacle, triton_obstacle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tttkit.models.language_model import BlockFunction, LanguageModel
    from tttkit.models.state import ModelState


class CompiledModel(nn.Module):
    """Callable like its model, whose parameters it shares; `reason` says in one line how it runs and why."""

    def __init__(self, model: LanguageModel, blocks: Sequence[BlockFunction] | None, reason: str) -> None:
        super().__init__()
        self.model = model
        self.reason = reason
        # None runs the model's own blocks eagerly; a tuple is not registered, so parameters are listed once
        self.blocks = None if blocks is None else tuple(blocks)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (B, L, V) float32, as `LanguageModel.forward`."""
        return self.model.head(self.hidden(input_ids))

    def hidden(self, input_ids: Tensor) -> Tensor:
        """Final hidden states (B, L, D), as `LanguageModel.hidden`."""
        return self.model.hidden(input_ids, self.blocks)

    def advance(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """As `LanguageModel.advance`; every length and position that was not seen before is compiled anew."""
        return self.model.advance(input_ids, state, self.blocks)

    def step(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """As `LanguageModel.step`, through `advance`."""
        hidden, after = self.advance(input_ids, state)
        return self.model.head(hidden), after


def compiled(model: LanguageModel, *, enabled: bool | None = None) -> CompiledModel:
    """Compile the blocks, or say why not: no compiler, or not worth it. All blocks share one compiled function.

    `enabled` None compiles on a GPU only: on two CPU cores a block runs a fifth to a third faster, but the first call
    with a new shape costs half a minute, which only the caller knows to be little or much.
    """
    device = model.device.type
    if enabled is False:
        return CompiledModel(model, None, "eager: as configured")
    obstacle = _obstacle(device)
    if obstacle is None and enabled is None and device == "cpu":
        obstacle = "on a CPU by default"
    if obstacle is not None:
        return CompiledModel(model, None, f"eager: {obstacle}")
    block = torch.compile(Block.forward, dynamic=False)
    layers = (layer for layer in model.model.layers if isinstance(layer, Block))
    reason = f"blocks compiled for {device}"
    if model.config.architecture == "ttt" and device == "cuda":
        kernel = fused_obstacle(model.config, device, next(model.parameters()).dtype)
        reason += ", inner loops in a Triton kernel" if kernel is None else f", inner loops too (kernel: {kernel})"
    return CompiledModel(model, [partial(block, layer) for layer in layers], reason)


def _obstacle(device: str) -> str | None:
    if device == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "no C++ compiler found"
    if device == "cuda":
        return triton_obstacle() or (None if has_triton() else "no Triton for this GPU found")
    return None
