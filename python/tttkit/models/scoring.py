"""The interface of a model that an evaluation needs. `LanguageModel` has it; any other model can implement it.

Shapes: N windows, L tokens. A window is (L+1) token ids: the model reads the first L and is scored on the last L.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.generation import GenerativeModel

TokenMeasure = Callable[[Tensor, Tensor], Tensor]
"""Gives a float32 figure (P,) for each of P positions, from their logits (P, V) float32 and next tokens (P,) int64."""


_LOGITS_IN_CACHE = 1 << 20
"""Logits whose softmax a CPU computes at once: 4 MB in float32, which the allocator reuses and a cache holds."""


def nll_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the NLL in nats of the next tokens; see `TokenMeasure`.

    On a CPU the softmax of a large vocabulary is computed for some positions at a time, which has the same bits: with
    50,257 tokens, head and softmax together take 0.87 of the time, and half the memory.
    """
    rows = max(1, _LOGITS_IN_CACHE // logits.shape[1])
    if logits.device.type != "cpu" or len(logits) <= rows:
        return F.cross_entropy(logits, targets, reduction="none")
    pairs = zip(torch.split(logits, rows), torch.split(targets, rows), strict=True)
    return torch.cat([F.cross_entropy(some, tokens, reduction="none") for some, tokens in pairs])


def is_predicted(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 where the next token has the highest logit, the first of equal ones, else 0; see `TokenMeasure`."""
    return (logits.argmax(dim=-1) == targets).float()


class ScoringModel(Protocol):
    """A causal language model that can score text (docs/protocol.md).

    An `nn.Module` has `training`, `eval` and `train` already.
    """

    training: bool

    @property
    def name(self) -> str:
        """Name of the kind of model, for tables."""

    @property
    def bos_id(self) -> int | None:
        """The token that may stand in front of a text (BOS); None for a model without."""

    @property
    def adds_bos(self) -> bool:
        """Whether the model was trained with that token in front of every text."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""

    @property
    def mini_batch_size(self) -> int:
        """Stride of the windows of the context sw_aligned: tokens of an inner mini-batch, 1 for other models."""

    @property
    def device(self) -> torch.device:
        """The device on which windows must be."""

    @property
    def max_positions(self) -> int | None:
        """Longest text that the model can read, in tokens; None for no limit."""

    @property
    def can_carry(self) -> bool:
        """Whether `carry` over the segments of a text equals one pass over the text."""

    @property
    def module(self) -> nn.Module:
        """The module that holds the weights, which the context `dynamic` adapts."""

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients and without head, in bytes per token."""

    def score(
        self,
        windows: Tensor,
        num_scored: int,
        *,
        head_positions: int | None = None,
        measure: TokenMeasure = nll_of,
    ) -> Tensor:
        """Return the NLL in nats, (N, num_scored) float32, of the last tokens of windows (N, L+1) int64.

        Another `measure` gives its figures in place of the NLL.

        Every window is a text of its own. `head_positions` bounds the positions whose logits exist at once; None means
        all. A model that holds fewer logits may ignore it.
        """

    def carry(
        self, windows: Tensor, state: Any, *, head_positions: int | None = None, measure: TokenMeasure = nll_of
    ) -> tuple[Tensor, Any]:
        """Score a segment of a longer text: return the NLL (N, L) of windows (N, L+1), and the state after it.

        `state` is the state that the preceding call returned, or None at the start of the text. The last token of a
        segment is the first of the next. A state is passed on once, because a model may change it in place.
        """

    def detach_state(self, state: Any) -> Any:
        """Return a state of `carry` that is cut from the graph; the given one is not used again."""

    def eval(self) -> Any:
        """Switch to evaluation mode."""

    def train(self, mode: bool = True) -> Any:
        """Switch to training mode, or to evaluation mode if `mode` is False."""


class LoadedModel(ScoringModel, GenerativeModel, Protocol):
    """A model that was read from a directory, with what is known about it."""

    @property
    def trained_positions(self) -> int | None:
        """Longest text of training in tokens, if its config names one."""

    @property
    def sees_whole_past(self) -> bool:
        """Whether every layer attends to all earlier tokens, so that nothing that was read is lost."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about what was found when the model was loaded."""

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights: equal digests give equal results."""

    def to(self, device: torch.device | str) -> Any:
        """Move the model to a device."""
