"""Per-token NLL in the four contexts of evaluation.md.

Legend: B sequences, T positions, W window, C inner mini-batch, V vocabulary. `nll[b, i] = -log p(tokens[b, i+1])`.

`full` is one pass with the state carried. The other contexts are passes over windows of at most W tokens with a fresh
state, of which the last positions are scored: `sw` the last one, `sw_aligned` the last C, `reset` all. Cost in tokens:
T; T x W; T x W / C; T. Only the scored positions go through the head and, in the last layer, through what
follows keys, values and inner loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tttkit.evaluate.arrays import check_size
from tttkit.evaluate.memory import batch_logits, batch_tokens
from tttkit.models import LanguageModel

Progress = Callable[[float], None]
"""Called between batches with the share done; may raise to stop."""


def token_nll(
    model: LanguageModel,
    tokens: NDArray[np.integer] | Tensor,
    context: str = "full",
    *,
    window: int = 64,
    positions: NDArray[np.integer] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """NLL in nats of `tokens[:, 1:]`, float32 `(B, T)`, for tokens `(B, T+1)` of any integer type.

    With `positions` only those are computed, the others are NaN; that saves time for `sw`. The model's mode is put
    back. Raises TypeError, ValueError naming the argument.
    """
    if context not in SCORING:
        raise ValueError(f"context must be one of {', '.join(SCORING)}, got {context!r}")
    check_size("window", window)
    if context == "sw_aligned" and window < model.config.mini_batch_size:
        raise ValueError(
            f"window must hold at least one inner mini-batch for sw_aligned, got {window} and "
            f"mini_batch_size {model.config.mini_batch_size}"
        )
    ids = _check_tokens(tokens, model.config.vocab_size)
    num_positions = ids.shape[1] - 1
    wanted = _check_positions(positions, num_positions)
    runner = Runner(model, ids, progress)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            SCORING[context](runner, window, wanted)
            runner.run()
    finally:
        model.train(was_training)
    runner.nll[:, ~wanted] = np.nan
    return runner.nll


class ScoringFunction(Protocol):
    """How a context is computed: it plans the windows in which the positions `wanted` (T,) are scored."""

    def __call__(self, runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
        """Call `runner.plan` for every group of windows of one length."""


def score_full(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:  # noqa: ARG001
    """One pass over the whole text."""
    runner.plan(np.zeros(1, dtype=np.int64), wanted.size, wanted.size)


def score_sw(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
    """A window of its own for each wanted position; one pass for the positions before W."""
    if wanted.size <= window:
        return score_full(runner, window, wanted)
    runner.plan(np.zeros(1, dtype=np.int64), window, window)
    starts = np.arange(1, wanted.size - window + 1)
    runner.plan(starts[wanted[window:]], window, 1)
    return None


def score_sw_aligned(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
    """Windows that start on multiples of the inner mini-batch, whose last mini-batch is scored."""
    _score_strided(runner, window, wanted, runner.mini_batch_size)


def score_reset(runner: Runner, window: int, wanted: NDArray[np.bool_]) -> None:
    """Disjoint windows, scored whole."""
    _score_strided(runner, window, wanted, window)


SCORING: dict[str, ScoringFunction] = {
    "full": score_full, "sw": score_sw, "sw_aligned": score_sw_aligned, "reset": score_reset
}  # fmt: skip
"""How each entry of `results.contexts.CONTEXTS` is computed."""


def _score_strided(runner: Runner, window: int, wanted: NDArray[np.bool_], stride: int) -> None:
    """Windows `stride` apart, of each the last `stride` positions scored; the first window is scored whole."""
    num_positions = wanted.size
    if num_positions <= window:
        return score_full(runner, window, wanted)
    runner.plan(np.zeros(1, dtype=np.int64), window, window)
    starts = np.arange(stride, num_positions, stride)
    starts = starts[starts + window - stride < num_positions]
    whole = starts + window <= num_positions
    runner.plan(starts[whole], window, stride)
    for start in starts[~whole].tolist():
        length = num_positions - start
        runner.plan(np.array([start]), length, length - (window - stride))
    return None


class Runner:
    """Runs planned windows of one batch of sequences and collects their NLL."""

    def __init__(self, model: LanguageModel, ids: Tensor, progress: Progress | None) -> None:
        self.mini_batch_size = model.config.mini_batch_size
        self.nll = np.full((ids.shape[0], ids.shape[1] - 1), np.nan, dtype=np.float32)
        self._model = model
        self._device = next(model.parameters()).device
        self._ids = ids.to(self._device)
        self._progress = progress
        self._plans: list[tuple[NDArray[np.int64], int, int]] = []
        self._batch_tokens = batch_tokens(model.config, self._device)
        self._batch_logits = batch_logits(model.config, self._device)

    def plan(self, starts: NDArray[np.int64], length: int, num_scored: int) -> None:
        """Windows `start … start + length - 1` of every sequence, the last `num_scored` positions of each scored."""
        if starts.size:
            self._plans.append((starts, length, num_scored))

    def run(self) -> None:
        """Run all planned windows in batches that fit memory."""
        num_rows = self._ids.shape[0]
        total = sum(starts.size * length for starts, length, _ in self._plans) * num_rows
        done = 0
        for starts, length, num_scored in self._plans:
            pairs = np.stack(np.meshgrid(starts, np.arange(num_rows), indexing="ij"), axis=-1).reshape(-1, 2)
            size = max(1, self._batch_tokens // length)
            for index in range(0, len(pairs), size):
                batch = pairs[index : index + size]
                self._run_batch(batch[:, 1], batch[:, 0], length, num_scored)
                done += len(batch) * length
                if self._progress is not None:
                    self._progress(done / total)

    def _run_batch(self, rows: NDArray[np.int64], starts: NDArray[np.int64], length: int, num_scored: int) -> None:
        offsets = torch.from_numpy(starts).to(self._device)[:, None] + torch.arange(length + 1, device=self._device)
        windows = self._ids[torch.from_numpy(rows).to(self._device)[:, None], offsets]  # (N, length + 1)
        last = None if num_scored == length else num_scored
        hidden = self._model.hidden(windows[:, :-1], last=last)  # (N, num_scored, D)
        nll = self._score(hidden.flatten(0, 1), windows[:, -num_scored:].flatten()).view(-1, num_scored)
        columns = starts[:, None] + np.arange(length - num_scored, length)
        self.nll[rows[:, None], columns] = nll.cpu().numpy()

    def _score(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """NLL of targets (N,) given hidden states (N, D), the logits of a bounded number at once."""
        parts = zip(torch.split(hidden, self._batch_logits), torch.split(targets, self._batch_logits), strict=True)
        return torch.cat(
            [
                functional.cross_entropy(self._model.head(part).float(), target, reduction="none")
                for part, target in parts
            ]
        )


def _check_tokens(tokens: NDArray[np.integer] | Tensor, vocab_size: int) -> Tensor:
    """Ids as int64. All of them: the model never sees the last token of a row, and a wrong target costs nothing."""
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
