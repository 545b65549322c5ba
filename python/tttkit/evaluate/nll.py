"""Per-token NLL of any `ScoringModel` in the contexts of docs/protocol.md.

Legend: B sequences, T positions, N windows, W window, C inner mini-batch. `nll[b, i] = -log p(tokens[b, i+1])`.

`full` is one pass over the text, or one pass over segments that carry the state. The other contexts are passes over
windows of at most W tokens that start from the initial state, and the last positions of each window are scored: in `sw`
the last one, in `sw_aligned` the last C, in `reset` all. Cost in tokens: T; T x W; T x W / C; T. Only scored positions
go through the head and, in the last layer, through the parts that follow keys, values and inner loop. `dynamic` reads
the text as `full` does and changes the weights on the way (`dynamic.py`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tttkit.evaluate.arrays import check_size
from tttkit.evaluate.bos import bos_in_front
from tttkit.evaluate.dynamic import DynamicRule
from tttkit.evaluate.runner import Progress, Runner, Share
from tttkit.models.scoring import ScoringModel, TokenMeasure, nll_of


def token_nll(
    model: ScoringModel,
    tokens: NDArray[np.integer] | Tensor,
    context: str = "full",
    *,
    window: int = 64,
    positions: NDArray[np.integer] | None = None,
    segment: int | None = None,
    bos: str = "never",
    dynamic: DynamicRule | None = None,
    progress: Progress | None = None,
    share: Share | None = None,
    measure: TokenMeasure = nll_of,
) -> NDArray[np.float32]:
    """Return the NLL in nats of `tokens[:, 1:]`, float32 `(B, T)`, for tokens `(B, T+1)` of any integer type.

    With `positions`, only those are computed and the others are NaN, which saves time for `sw`. With `segment`, `full`
    reads the text in segments of that many tokens through the model's `carry`, in memory that does not depend on T; the
    last bit may differ from one pass. `bos` says whether the model's BOS stands in front of every context that starts
    (`auto`, `always` or `never`, see `bos_in_front`); it is never scored and not counted in W. The context
    `dynamic` needs its rule (`dynamic.py`). With `share`, several processes compute a part each, and each returns all;
    `dynamic` is computed by every process. Another `measure` takes the place of the NLL (not in `dynamic`). The
    model is back in its mode (training or evaluation) and has its weights afterwards. Raises TypeError, ValueError
    naming the argument, UsageError beyond the positions of the model, and NumericalError if `dynamic` diverges.
    """
    if context not in SCORING:
        raise ValueError(f"context must be one of {', '.join(SCORING)}, got {context!r}")
    check_size("window", window)
    if context == "sw_aligned" and window < model.mini_batch_size:
        raise ValueError(
            f"window must hold at least one inner mini-batch for sw_aligned, got {window} and "
            f"mini_batch_size {model.mini_batch_size}"
        )
    _check_segment(model, segment)
    ids = _check_tokens(tokens, model.vocab_size)
    num_positions = ids.shape[1] - 1
    wanted = _check_positions(positions, num_positions)
    runner = Runner(model, ids, segment, bos_in_front(model, bos), progress, dynamic, share, measure)
    was_training = model.training
    model.eval()
    try:
        SCORING[context](runner, window, wanted)
        runner.run()
    finally:
        model.train(was_training)
    runner.nll[:, ~wanted] = np.nan
    return runner.nll


class ScoringFunction(Protocol):
    """The implementation of a context: it plans the windows in which the positions `wanted`, (T,) bool, are scored."""

    def __call__(self, runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
        """Call `runner.plan` for every group of windows of the same length."""


def score_full(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:  # noqa: ARG001
    """Plan one pass over the whole text."""
    runner.plan(np.zeros(1, dtype=np.int64), wanted.size, wanted.size)


def score_sw(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
    """Plan a window of its own for each wanted position, and one pass over the positions before W."""
    if wanted.size <= window:
        return score_full(runner, window, wanted)
    runner.plan(np.zeros(1, dtype=np.int64), window, window)
    starts = np.arange(1, wanted.size - window + 1)
    runner.plan(starts[wanted[window:]], window, 1)
    return None


def score_sw_aligned(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
    """Plan windows that start on multiples of the inner mini-batch; their last mini-batch is scored."""
    score_strided(runner, window, wanted, runner.mini_batch_size)


def score_reset(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
    """Plan disjoint windows; all their positions are scored."""
    score_strided(runner, window, wanted, window)


def score_dynamic(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:  # noqa: ARG001
    """Score the whole text in segments and let the weights learn from each; this needs no windows."""
    runner.adapt()


SCORING: dict[str, ScoringFunction] = {
    "full": score_full, "sw": score_sw, "sw_aligned": score_sw_aligned, "reset": score_reset,
    "dynamic": score_dynamic,
}  # fmt: skip
"""The scoring function of each entry of `results.contexts.CONTEXTS`."""


def score_strided(runner: Runner, window: int, wanted: NDArray[np.bool_], stride: int) -> None:
    """Plan windows `stride` apart; the last `stride` positions of each are scored, and all of the first window.

    Windows without a wanted position among those are left out.
    """
    num_positions = wanted.size
    if num_positions <= window:
        return score_full(runner, window, wanted)
    runner.plan(np.zeros(1, dtype=np.int64), window, window)
    starts = np.arange(stride, num_positions, stride)
    starts = starts[starts + window - stride < num_positions]
    scored = starts[:, None] + np.arange(window - stride, window)
    starts = starts[wanted[np.minimum(scored, num_positions - 1)].any(axis=1)]
    whole = starts + window <= num_positions
    runner.plan(starts[whole], window, stride)
    for start in starts[~whole].tolist():
        length = num_positions - start
        runner.plan(np.array([start]), length, length - (window - stride))
    return None


def _check_segment(model: ScoringModel, segment: int | None) -> None:
    if segment is not None:
        check_size("segment", segment)
        if not model.can_carry:
            raise ValueError(f"segment must be None for a model that cannot carry its state, got {segment}")


def _check_tokens(tokens: NDArray[np.integer] | Tensor, vocab_size: int) -> Tensor:
    """Return the ids as int64. All of them are checked here, because no model reads the last token of a row."""
    if not isinstance(tokens, np.ndarray | Tensor):
        raise TypeError(f"tokens must be an integer array or tensor, got {type(tokens).__name__}")
    if isinstance(tokens, np.ndarray):
        whole = np.issubdtype(tokens.dtype, np.integer)
    else:
        whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    if not whole:
        raise TypeError(f"tokens must be an integer array or tensor, got {tokens.dtype}")
    if tokens.ndim != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 2:
        raise ValueError(f"tokens must have shape (sequences, at least 2 tokens), got {tuple(tokens.shape)}")
    ids = torch.from_numpy(tokens.astype(np.int64)) if isinstance(tokens, np.ndarray) else tokens.long()
    low, high = (int(bound) for bound in torch.aminmax(ids))
    if low < 0 or high >= vocab_size:
        raise ValueError(f"tokens must be in 0 … {vocab_size - 1} (vocab_size {vocab_size}), got {low} … {high}")
    return ids


def _check_positions(positions: NDArray[np.integer] | None, num_positions: int) -> NDArray[np.bool_]:
    """Return which positions are wanted, (T,) bool; None means all."""
    if positions is None:
        return np.ones(num_positions, dtype=bool)
    indices = np.asarray(positions)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"positions must be a one-dimensional integer array, got {indices.dtype} {indices.shape}")
    if indices.size and (indices.min() < 0 or indices.max() >= num_positions):
        raise ValueError(f"positions must be in 0 … {num_positions - 1}, got {indices.min()} … {indices.max()}")
    wanted = np.zeros(num_positions, dtype=bool)
    wanted[indices] = True
    return wanted
