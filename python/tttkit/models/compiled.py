"""The model as the trainer runs it: its blocks compiled by torch.compile if that is possible and worthwhile."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils._triton import has_triton

from tttkit.models.block import Block
from tttkit.models.ttt_scan import triton_obstacle

if TYPE_CHECKING:
    from torch import Tensor

    from tttkit.models.block import BlockFunction
    from tttkit.models.language_model import LanguageModel
    from tttkit.models.state import ModelState


class CompiledModel(nn.Module):
    """A callable with the interface of its model, whose parameters it shares; `reason` says how it runs and why."""

    def __init__(self, model: LanguageModel, function: BlockFunction | None, reason: str) -> None:
        super().__init__()
        self.model = model
        self.reason = reason
        self._function = function
        """The compiled function that runs every block; None runs them eagerly."""

    def forward(
        self,
        input_ids: Tensor,
        targets: Tensor | None = None,
        state: ModelState | None = None,
        scored: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ModelState]:
        """Return what `LanguageModel.forward` returns.

        Every new combination of length and position is compiled once.
        """
        result: Tensor | tuple[Tensor, ModelState] = self.model(input_ids, targets, state, self._function, scored)
        return result

    def step(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Return what `LanguageModel.step` returns."""
        logits, after = self(input_ids, state=state)
        return logits, after


def compiled(model: LanguageModel, *, enabled: bool | None = None) -> CompiledModel:
    """Compile the blocks, or say why not: no compiler, or not worthwhile. All blocks share one compiled function.

    With `enabled` None, compile on a GPU only: on two CPU cores a block runs a fifth to a third faster, but the first
    call with a new shape costs half a minute, and only the caller knows how long the run is.
    """
    device = model.device.type
    if enabled is False:
        return CompiledModel(model, None, "eager: as configured")
    obstacle = _obstacle(device)
    if obstacle is None and enabled is None and device == "cpu":
        obstacle = "on a CPU by default"
    if obstacle is not None:
        return CompiledModel(model, None, f"eager: {obstacle}")
    dtype = next(model.parameters()).dtype
    blocks = [block for block in model.model.layers if isinstance(block, Block)]
    notes = dict.fromkeys(block.seq_modeling_block.compiled_note(device, dtype) for block in blocks)
    function = torch.compile(Block.compute, dynamic=False)
    return CompiledModel(model, function, f"blocks compiled for {device}{''.join(notes)}")


def _obstacle(device: str) -> str | None:
    if device == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "no C++ compiler found"
    if device == "cuda":
        return triton_obstacle() or (None if has_triton() else "no Triton for this GPU found")
    return None
