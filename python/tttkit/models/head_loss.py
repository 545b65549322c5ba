"""The output head and its cross-entropy as one function, whose gradient is made while the loss is.

Shapes: R rows (positions that are scored), D width, V vocabulary. A product whose rows are 50,257 numbers apart runs at
two thirds of the speed of an aligned one, so logits stand in rows of a round length. One array of logits and one of
probabilities are all that is held, where automatic differentiation would hold four.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tttkit.models.layers import widen

_ROUND = 64
"""Row lengths are multiples of this many numbers."""


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats, a scalar in float32 at least, of the logits `hidden @ weight.T`.

    `hidden` is (…, D), `weight` (V, D), `targets` (…) int64 in 0 … V - 1. Autocast rounds the
    products.
    """
    loss: Tensor = _HeadLoss.apply(hidden.flatten(0, -2), weight, targets.flatten())
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        inputs, head = hidden.to(dtype), weight.to(dtype)
        vocab = weight.shape[0]
        logits = inputs.new_empty(len(inputs), -(-vocab // _ROUND) * _ROUND)
        logits[:, vocab:] = -torch.inf
        torch.mm(inputs, head.t(), out=logits[:, :vocab])
        logits = widen(logits)
        highest, at = logits.max(dim=1, keepdim=True)
        places = targets[:, None]
        reached = logits.gather(1, places)
        gradient = logits.softmax(1)
        del logits
        loss = (highest - gradient.gather(1, at).log() - reached).mean()  # of the highest the logarithm is exact
        gradient.scatter_add_(1, places, -torch.ones_like(reached))
        ctx.save_for_backward(inputs, head, gradient)
        ctx.types = hidden.dtype, weight.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs, head, gradient = ctx.saved_tensors
        share = (grad_loss / len(inputs)).to(inputs.dtype)
        gradient = gradient.to(inputs.dtype)[:, : len(head)]
        grad_hidden = torch.mm(gradient, head) * share
        grad_weight = torch.mm(gradient.t(), inputs * share)
        return grad_hidden.to(ctx.types[0]), grad_weight.to(ctx.types[1]), None
