"""Everything of a language model but its head: embedding, blocks and final norm, and the initial values of all.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tttkit.models.block import Block
from tttkit.models.layers import RMSNorm, SequenceLayer

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig


class Backbone(nn.Module):
    """Embedding, blocks and final norm, under the official names."""

    def __init__(self, config: ModelConfig, sequence_layer: Callable[[ModelConfig], SequenceLayer]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(each, sequence_layer(each)) for each in config.layer_configs())
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        for index, block in enumerate(self.layers):
            for part in block.modules():
                if isinstance(part, SequenceLayer):
                    part.layer_index = index

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings (B, L, D) of ids (B, L). Raises TypeError and ValueError for ids that are unusable."""
        weight = self.embed_tokens.weight
        check_input_ids(input_ids, weight.shape[0])
        if input_ids.device != weight.device:
            raise ValueError(f"input_ids must be on the model's device {weight.device}, got {input_ids.device}")
        embedded: Tensor = self.embed_tokens(input_ids)
        return embedded


def reset_parameters(model: nn.Module, blocks: tuple[Block, ...], initializer_range: float) -> None:
    """Draw the official initial values of a model from torch's generator, in the order of its modules."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=initializer_range)
        if isinstance(module, SequenceLayer):
            module.reset_parameters()
    for block in blocks:
        block.seq_modeling_block.reset_projections()


def check_input_ids(input_ids: Tensor, vocab_size: int) -> None:
    """Refuse ids that no model can read. The range is checked on a CPU only: on a GPU the check would wait.

    Raises TypeError and ValueError.
    """
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"input_ids must be int64 or int32, got {input_ids.dtype}")
    if input_ids.ndim != 2:
        raise ValueError(f"input_ids must have shape (B, L), got {tuple(input_ids.shape)}")
    if 0 in input_ids.shape:
        raise ValueError(f"input_ids must hold at least one row and one token, got shape {tuple(input_ids.shape)}")
    if input_ids.device.type == "cpu":
        low, high = (int(bound) for bound in torch.aminmax(input_ids))
        if low < 0 or high >= vocab_size:
            raise ValueError(f"input_ids must be in 0 … {vocab_size - 1} (vocab_size {vocab_size}), got {low} … {high}")
