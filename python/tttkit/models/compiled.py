"""The model as the trainer runs it: blocks through torch.compile where that is possible and pays."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._triton import has_triton

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tttkit.models.language_model import BlockFunction, LanguageModel


@dataclass(frozen=True, kw_only=True)
class CompiledModel:
    """Callable like its model, whose parameters it shares."""

    model: LanguageModel
    blocks: Sequence[BlockFunction] | None
    """Compiled blocks; None: the model runs eagerly."""
    reason: str
    """Why it runs as it does, in one line."""

    def __call__(self, input_ids: Tensor) -> Tensor:
        """Logits (B, L, V) float32, as `LanguageModel.forward`."""
        return self.model.head(self.model.hidden(input_ids, self.blocks))


def compiled(model: LanguageModel, *, enabled: bool | None = None) -> CompiledModel:
    """Compile the blocks (the first call with a new shape takes seconds to minutes), or say why not.

    `enabled` None compiles on a GPU only: small models on a CPU gain less than compiling costs.
    """
    device = next(model.parameters()).device.type
    reason = _obstacle(device)
    if enabled is None and reason is None and device == "cpu":
        reason = "on a CPU by default"
    if enabled is False:
        reason = "as asked"
    if reason is not None:
        return CompiledModel(model=model, blocks=None, reason=f"eager: {reason}")
    blocks = [torch.compile(block, dynamic=False) for block in model.model.layers]
    return CompiledModel(model=model, blocks=blocks, reason=f"blocks compiled for {device}")


def _obstacle(device: str) -> str | None:
    if device == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "no C++ compiler found"
    if device == "cuda" and not has_triton():
        return "no Triton found"
    return None
