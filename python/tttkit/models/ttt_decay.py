"""Decay of the fast weights of a TTT layer at every token, as matrices over a mini-batch.

Token i keeps the share a_i in (0, 1) of all that was learned before it: W_0 + a_i (W - W_0), with W_0 the learned
initial weights (the data-dependent decay of Gated DeltaNet, arXiv 2412.06464, and of Titans, 2501.00663). Gradients
of a mini-batch are still taken at the weights of its start. Shapes: M = batch x heads, N pieces of C tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

INITIAL_SHARE = 0.999
"""Share of the learned change that a token keeps when training begins."""
INITIAL_BIAS = math.log(math.expm1(-math.log(INITIAL_SHARE)))
"""Bias at which -softplus(bias) is the logarithm of `INITIAL_SHARE`."""


@dataclass(frozen=True, kw_only=True)
class Decay:
    """Decay within N pieces. Only differences that are at most 0 are exponentiated, so nothing overflows."""

    log: Tensor  # (N, M, C): sum of log a from the start of the mini-batch up to and including the token
    before: Tensor  # (M): the sum over the tokens of the mini-batch before the first piece
    initial: tuple[Tensor, ...]  # W_0, (M, rows + 1, columns) each

    @property
    def kept(self) -> Tensor:
        """Share of the change at the start of the mini-batch that each token still sees, (N, M, C, 1)."""
        return self.log.exp()[..., None]

    @property
    def since_pending(self) -> Tensor:
        """Share of the pending sum that each token still sees, (N, M, C, 1)."""
        return (self.log - self.before[:, None]).exp()[..., None]

    @property
    def between(self) -> Tensor:
        """Share of the step of token j that token i sees, (N, M, C, C); 0 for later tokens."""
        difference = self.log[..., :, None] - self.log[..., None, :]
        later = torch.ones(difference.shape[-2:], dtype=torch.bool, device=difference.device).triu(1)
        return difference.masked_fill(later, -math.inf).exp()

    @property
    def to_end(self) -> Tensor:
        """Share of the step of each token that is left after the last token of its piece, (N, M, C)."""
        return (self.log[..., -1:] - self.log).exp()


def cut_decay(log_decay: Tensor, size: int, before: Tensor | None, initial: tuple[Tensor, ...]) -> Decay:
    """Return the decay of L / size pieces of a text, from log shares (B, L, H).

    `before`, (B x H), is the sum over earlier tokens of the mini-batch.
    """
    batch, length, heads = log_decay.shape
    cut = log_decay.reshape(batch, length // size, size, heads)
    log = cut.permute(1, 0, 3, 2).reshape(-1, batch * heads, size).cumsum(-1)
    if before is None:
        return Decay(log=log, before=log.new_zeros(batch * heads), initial=initial)
    return Decay(log=log + before[:, None], before=before, initial=initial)
