"""Effective memory: how many of the last tokens decide what a model predicts (EffRem of arXiv 2507.02782).

After p tokens, the prediction of the next token is compared with the prediction from the last t tokens only, by the
total variation: half the sum of the absolute differences of probabilities, 0 for equal and 1 for disjoint predictions.
The effective memory is the smallest t from which on the mean total variation stays at most `TOLERANCE`.

Shapes: N sequences, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from tttkit.evaluate.memory import batch_tokens, head_positions
from tttkit.models.scoring import LoadedModel

TOLERANCE = 0.1
"""Total variation that counts as the same prediction."""
_RESAMPLES = 1000
Floats = NDArray[np.float64]


def grid(position: int, mini_batch: int) -> list[int]:
    """Return the numbers of last tokens t < `position` to try first: 1, 2, 3, 4, 6, 8, 12 …

    Beyond an inner mini-batch of C tokens they are multiples of C, so that tokens keep their slots in it.
    """
    powers = (1 << exponent for exponent in range(position.bit_length()))
    sizes = {size for power in powers for size in (power, power + power // 2)}
    rounded = {size if size < mini_batch else round(size / mini_batch) * mini_batch for size in sizes}
    return sorted(size for size in rounded if 1 <= size < position)


def grid_tokens(positions: Sequence[int], mini_batch: int) -> int:
    """Return the tokens that a model reads per sequence for the first tries at all positions."""
    return sum(position + sum(grid(position, mini_batch)) for position in positions)


def measure_position(
    position: int, mini_batch: int, vary: Callable[[int], Floats], progress: Callable[[float], None]
) -> dict[int, Floats]:
    """Return the total variations (N) after `position` tokens by t, on the grid and beside the effective memory.

    `vary` returns them for one t. Between the last t of the grid above the tolerance and the next one, the place where
    the mean falls to the tolerance is found by bisection.
    """
    sizes = grid(position, mini_batch)
    known: dict[int, Floats] = {}
    for index, size in enumerate(sizes):
        known[size] = vary(size)
        progress((index + 1) / len(sizes))
    known[position] = np.zeros_like(known[sizes[0]])
    high = effective_memory(known)
    low = max((size for size in known if size < high), default=0)
    unit = mini_batch if low >= mini_batch else 1
    while high - low > unit:
        middle = low + max(unit, (high - low) // 2 // unit * unit)
        known[middle] = vary(middle)
        low, high = (low, middle) if known[middle].mean() <= TOLERANCE else (middle, high)
    return dict(sorted(known.items()))


def effective_memory(variations: dict[int, Floats]) -> int:
    """Return the smallest measured t from which on all measured means are at most the tolerance."""
    sizes = sorted(variations)
    return int(_crossing(np.array(sizes), np.array([[variations[size].mean() for size in sizes]]))[0])


def memory_interval(variations: dict[int, Floats]) -> tuple[int, int] | None:
    """Return the percentile 95 % interval of the effective memory over sequences; None for fewer than two."""
    sizes = sorted(variations)
    rows = np.stack([variations[size] for size in sizes], axis=1)  # (N, sizes)
    if len(rows) < 2:
        return None
    draws = np.random.default_rng(0).integers(0, len(rows), (_RESAMPLES, len(rows)))
    crossings = np.sort(_crossing(np.array(sizes), rows[draws].mean(axis=1)))
    return int(crossings[int(0.025 * _RESAMPLES)]), int(crossings[int(0.975 * _RESAMPLES) - 1])


def _crossing(sizes: NDArray[np.int64], means: Floats) -> NDArray[np.int64]:
    """Return for each row of means (R, sizes) the size after the last mean above the tolerance."""
    above = means > TOLERANCE
    last = np.where(above.any(axis=1), means.shape[1] - 1 - above[:, ::-1].argmax(axis=1), -1)
    crossing: NDArray[np.int64] = sizes[np.minimum(last + 1, len(sizes) - 1)]
    return crossing


@torch.inference_mode()
def next_token_probabilities(model: LoadedModel, tokens: NDArray[np.int64], bos_id: int | None) -> NDArray[np.float32]:
    """Return the probabilities (N, V) of the token after tokens (N, L), each row a text of its own."""
    ids = torch.from_numpy(tokens).to(model.device)
    if bos_id is not None:
        ids = F.pad(ids, (1, 0), value=bos_id)
    longest = batch_tokens(model.bytes_per_token(), model.device)
    rows = max(1, min(longest // ids.shape[1], head_positions(model.vocab_size, model.device)))
    return torch.cat([_after(model, part, longest) for part in torch.split(ids, rows)]).cpu().numpy()


def _after(model: LoadedModel, ids: Tensor, longest: int) -> Tensor:
    """Return the probabilities (N, V) after ids (N, L), read in segments if one pass does not fit in memory."""
    state = model.initial_state(len(ids))
    segment = longest if model.can_carry else ids.shape[1]
    for part in torch.split(ids, segment, dim=1):
        logits, state = model.next_logits(part, state)
    return logits.float().softmax(-1)


def total_variation(first: NDArray[np.float32], second: NDArray[np.float32]) -> Floats:
    """Return the total variation (N) of distributions (N, V)."""
    distance: Floats = 0.5 * np.abs(first.astype(np.float64) - second).sum(axis=1)
    return distance
