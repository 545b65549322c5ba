"""The context `dynamic`: test-time training of any model by gradient steps on the text that it has scored.

A text is read as in `full`, in segments that carry the model's state. Each segment is scored first; then the weights
take one step on its mean NLL, and the state goes on without a graph. Legend: B sequences, T positions.

Every sequence adapts on its own, one after the other, so the result does not depend on the others. A forward and a
backward pass cost about three forward passes, and rows are not batched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tttkit.config.dynamic import DynamicConfig
from tttkit.data.split import Split
from tttkit.errors import NumericalError, UsageError
from tttkit.evaluate.adaptation import Adaptation, adapting, gradients_of
from tttkit.evaluate.sequences import spread
from tttkit.models.scoring import ScoringModel

_RMS_SEGMENTS = 256
"""Segments of the training split from which the RMS of gradients is computed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicRule:
    """Settings of `dynamic`, with what they need from data and model. `dynamic_rule` makes one."""

    config: DynamicConfig
    rms: Mapping[str, Tensor] | None = None
    """RMS of the gradient of every weight by name, for the optimizer `rms`."""
    eos_id: int | None = None
    """The token that ends a document, for `reset = "document"`."""


def dynamic_rule(model: ScoringModel, config: DynamicConfig, training: Split | None, eos_id: int) -> DynamicRule:
    """Return the rule for a model, with the RMS of its gradients on the training split if the optimizer needs it."""
    if config.optimizer != "rms":
        return DynamicRule(config=config, eos_id=eos_id)
    if training is None:
        raise UsageError("the optimizer rms of `dynamic` needs a training split")
    return DynamicRule(config=config, rms=gradient_rms(model, config, training), eos_id=eos_id)


def gradient_rms(model: ScoringModel, config: DynamicConfig, training: Split) -> dict[str, Tensor]:
    """Return the root mean square of each selected weight's gradient over segments spread over the training split.

    Each segment is a text of its own. The model is in evaluation mode. Raises UsageError for too short a split.
    """
    most = (training.num_tokens - 1) // config.segment
    if most == 0:
        raise UsageError(f"the training split holds no segment of {config.segment} tokens for the rule `rms`")
    count = min(most, _RMS_SEGMENTS)
    with gradients_of(model, config.parameters) as parameters:
        squares = {name: torch.zeros_like(each, dtype=torch.float32) for name, each in parameters.items()}
        for start in (spread(most, count) * config.segment).tolist():
            tokens = training.tokens(start, start + config.segment + 1).astype(np.int64)
            loss = model.score(torch.from_numpy(tokens).to(model.device)[None], config.segment).mean()
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
            for square, gradient in zip(squares.values(), gradients, strict=True):
                square.add_(gradient.float().square() / count)
    return {name: square.sqrt() for name, square in squares.items()}


def dynamic_nll(
    model: ScoringModel, ids: Tensor, rule: DynamicRule, bos_id: int | None, progress: Callable[[float], None] | None
) -> NDArray[np.float32]:
    """Return the NLL in nats of `ids[:, 1:]`, float32 (B, T), for ids (B, T+1) int64 on the model's device.

    The model is in evaluation mode and its weights are back at their start afterwards. Raises UsageError for a model
    that cannot carry its state, NumericalError if a score is not finite.
    """
    if not model.can_carry:
        raise UsageError(f"`dynamic` needs a model that can read a text in segments, which the {model.name} cannot")
    nll = np.full((ids.shape[0], ids.shape[1] - 1), np.nan, dtype=np.float32)
    with adapting(model, rule.config, rule.rms) as adaptation:
        for row, tokens in enumerate(ids):
            for start, scores in _read(model, tokens, rule, bos_id, adaptation):
                stop = start + len(scores)
                nll[row, start:stop] = scores
                if progress is not None:
                    progress((row + stop / nll.shape[1]) / len(nll))
            adaptation.restore()
    return nll


def _read(
    model: ScoringModel, tokens: Tensor, rule: DynamicRule, bos_id: int | None, adaptation: Adaptation
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the first position and the scores of each segment of one text (T+1), before the step on that segment."""
    state, length = None, len(tokens) - 1
    documents = _document_starts(tokens, rule)
    edges = _edges(length, rule.config.segment, documents)
    for start, stop in pairwise(edges):
        part = tokens[start : stop + 1]
        if start == 0 and bos_id is not None:
            part = torch.cat([part.new_tensor([bos_id]), part])
        nll, state = model.carry(part[None], state)
        nll = nll[0, start - stop :]
        scores = nll.detach().float().cpu().numpy()
        if not np.isfinite(scores).all():
            raise NumericalError(
                f"`dynamic` diverged: the NLL of positions {start} … {stop - 1} is not finite",
                hint="choose a smaller learning rate; `tttkit eval tune-dynamic` finds one",
            )
        yield start, scores
        if stop in documents:
            adaptation.restore()
        elif stop < length:
            adaptation.step(nll.mean())
        state = model.detach_state(state)


def _document_starts(tokens: Tensor, rule: DynamicRule) -> set[int]:
    """Return the positions at which a new document is predicted, if the weights go back to their start there."""
    if rule.config.reset != "document" or rule.eos_id is None:
        return set()
    return set(torch.nonzero(tokens[1:-1] == rule.eos_id)[:, 0].add(1).tolist())


def _edges(length: int, segment: int, documents: set[int]) -> list[int]:
    """Return where segments begin, counted from the start of each document, and the end of the text."""
    starts = [0, *sorted(documents)]
    ends = [*starts[1:], length]
    return [edge for start, end in zip(starts, ends, strict=True) for edge in range(start, end, segment)] + [length]
