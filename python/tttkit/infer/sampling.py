"""Draw the next token from logits: temperature, top-k, top-p, and draws that depend on (seed, row) alone.

Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from tttkit.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options for drawing tokens. Raises UsageError for a value outside its range."""

    temperature: float = 1.0
    """Divides the logits; 0 chooses the most likely token."""
    top_k: int | None = None
    """Draw only from the k most likely tokens."""
    top_p: float | None = None
    """Draw only from the most likely tokens that together reach this probability."""
    seed: int = 0
    """Equal seeds give equal text on the same machine, independent of the other prompts."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be a finite number of at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, got {self.top_p}")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return the distribution (R, V) float64 from which the next tokens are drawn, given logits (R, V).

    Temperature applies first, then top-k, then top-p to the rest. All ties at the border of top-k are kept.
    """
    logits = logits.double()
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    logits = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    distribution = logits.softmax(-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, order = distribution.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= sampling.top_p, 0.0)
        distribution = torch.zeros_like(distribution).scatter(-1, order, ordered)
        distribution = distribution / distribution.sum(-1, keepdim=True)
    return distribution


class Draws:
    """One stream of random numbers per row, so that a row's text does not depend on its neighbours."""

    def __init__(self, seed: int, num_rows: int) -> None:
        self._streams = [random.Random(f"{seed}/{row}") for row in range(num_rows)]

    def pick(self, distribution: Tensor, rows: list[int]) -> list[int]:
        """Return a token for each of `rows`, drawn from its row of the distribution (R, V) of `probabilities`."""
        levels = torch.tensor([[self._streams[row].random()] for row in rows], dtype=distribution.dtype)
        cumulative = distribution.cpu().cumsum(-1)
        # stays below the rounded total, because the highest random number is 1 - 2^-53
        levels = levels * cumulative[:, -1:]
        # right=True, because the first tokens may have probability zero
        picked: list[int] = torch.searchsorted(cumulative, levels, right=True).squeeze(-1).tolist()
        return picked
