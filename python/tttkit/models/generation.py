"""The interface of a model that continues texts token by token: ours and those of transformers have it.

Shapes: R rows, L tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from torch import Tensor


class DecodingState(Protocol):
    """What a model keeps of the texts that it has read: R rows, all of the same length."""

    @property
    def position(self) -> int:
        """Tokens of each row that the model has read."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""

    def select(self, rows: list[int]) -> Self:
        """Return the state of the given rows. The state itself is not used again."""

    def forked(self) -> Self:
        """Return a state that can be continued while this one stays as it is."""


class GenerativeModel(Protocol):
    """A causal language model that can continue texts."""

    @property
    def name(self) -> str:
        """Name of the kind of model, for tables."""

    @property
    def module(self) -> torch.nn.Module:
        """The module that holds the weights."""

    @property
    def device(self) -> torch.device:
        """The device on which ids must be."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""

    @property
    def max_positions(self) -> int | None:
        """Longest text that the model can read, in tokens; None for no limit."""

    @property
    def bos_id(self) -> int | None:
        """The token that may stand in front of a text (BOS); None for a model without."""

    @property
    def adds_bos(self) -> bool:
        """Whether the model was trained with that token in front of every text."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a text according to the model's files, besides the tokenizer's end-of-text token."""

    def initial_state(self, batch_size: int) -> Any:
        """Return the `DecodingState` before any text, for R rows."""

    def next_logits(self, input_ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read the next tokens (R, L) int64 of each row.

        Return the logits (R, V) float32 of the token after them, and the state. The given state is not used again,
        because a model may change it in place.
        """
