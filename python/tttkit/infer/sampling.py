"""From logits to the next token: temperature, top-k, top-p, and draws that depend on (seed, row) alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. Raises ValueError for a value outside its range."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_k: int | None = None
    """Only the k likeliest tokens are drawn."""
    top_p: float | None = None
    """Only the likeliest tokens that together reach this probability are drawn."""
    seed: int = 0
    """Equal seeds give equal text on the same machine, whatever other prompts run beside it."""

    def __post_init__(self) -> None:
        """Refuse what no draw could follow."""
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be a finite number of at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Distribution (R, V) float64 over the next token, given logits (R, V): the one that tokens are drawn from.

    Temperature first, then top-k, then top-p of what is left. Ties at the border of top-k are all kept.
    """
    logits = logits.double()
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    logits = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    found = logits.softmax(-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, order = found.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= sampling.top_p, 0.0)
        found = torch.zeros_like(found).scatter(-1, order, ordered)
        found = found / found.sum(-1, keepdim=True)
    return found


class Draws:
    """One stream of random numbers per row, so that a row's text does not depend on its neighbours."""

    def __init__(self, seed: int, num_rows: int) -> None:
        self._streams = [random.Random(f"{seed}/{row}") for row in range(num_rows)]

    def pick(self, found: Tensor, rows: list[int]) -> list[int]:
        """A token for each of `rows` from its distribution, (R, V) as `probabilities` gives it."""
        levels = torch.tensor([[self._streams[row].random()] for row in rows], dtype=found.dtype)
        reached = found.cpu().cumsum(-1)
        levels = levels * reached[:, -1:]  # below the total, which is rounded: the highest random number is 1 - 2^-53
        # to the right: the first tokens may have no probability
        picked: list[int] = torch.searchsorted(reached, levels, right=True).squeeze(-1).tolist()
        return picked
