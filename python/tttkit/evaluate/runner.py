"""Runs the windows that a context has planned, in batches that fit in memory (`nll.py`).

Legend: B sequences, T positions, N windows, L tokens of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from tttkit.errors import UsageError
from tttkit.evaluate.bos import longest_window
from tttkit.evaluate.dynamic import DynamicRule, dynamic_nll
from tttkit.evaluate.memory import batch_tokens, head_positions
from tttkit.models.scoring import ScoringModel, TokenMeasure, nll_of

Progress = Callable[[float], None]
"""Called between batches with the share that is done; may raise to stop."""


class Share(Protocol):
    """Processes that share the batches of an evaluation. The batches are those of one process, so are the bits."""

    def computes(self, index: int) -> bool:
        """Return whether this process computes batch `index`."""

    def ends_round(self, index: int) -> bool:
        """Return whether every process has computed a batch since the last round."""

    def agree(self, number: int) -> int:
        """Return the smallest number that any process has."""

    def join(self, nll: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the results of all processes, given those of this one and NaN elsewhere."""


class Runner:
    """Runs planned windows of one batch of sequences and collects their NLL."""

    def __init__(
        self,
        model: ScoringModel,
        ids: Tensor,
        segment: int | None,
        bos_id: int | None,
        progress: Progress | None,
        dynamic: DynamicRule | None = None,
        share: Share | None = None,
        measure: TokenMeasure = nll_of,
    ) -> None:
        """`bos_id` is the token in front of every window, None for none; `dynamic` is the rule for `adapt`."""
        self._share = share
        # models that have no other measure than the NLL need not take the argument
        self._measure: dict[str, TokenMeasure] = {} if measure is nll_of else {"measure": measure}
        self.mini_batch_size = model.mini_batch_size
        self.nll = np.full((ids.shape[0], ids.shape[1] - 1), np.nan, dtype=np.float32)
        self._model = model
        self._device = model.device
        self._ids = ids.to(self._device)
        self._segment = segment
        self._bos_id = bos_id
        self._progress = progress
        self._dynamic = dynamic
        self._plans: list[tuple[NDArray[np.int64], int, int]] = []
        self._batch_tokens = batch_tokens(model.bytes_per_token(), self._device)
        self._head_positions = head_positions(model.vocab_size, self._device)
        if share is not None:
            self._batch_tokens, self._head_positions = (
                share.agree(self._batch_tokens),
                share.agree(self._head_positions),
            )

    def plan(self, starts: NDArray[np.int64], length: int, num_scored: int) -> None:
        """Plan windows of tokens `start … start + length - 1` of every sequence, scored at their last positions.

        Raises UsageError if the model cannot read `length` tokens.
        """
        self._check_length(length)
        if starts.size:
            self._plans.append((starts, length, num_scored))

    def adapt(self) -> None:
        """Score all sequences in the context `dynamic`. Raises as `dynamic_nll` and `plan` do."""
        if self._dynamic is None:
            raise ValueError("dynamic must be a DynamicRule for the context `dynamic`, got None")
        self._check_length(self._ids.shape[1] - 1)
        self.nll = dynamic_nll(self._model, self._ids, self._dynamic, self._bos_id, self._progress)

    @torch.inference_mode()
    def run(self) -> None:
        """Run all planned windows in batches that fit in memory."""
        batches = [
            (batch, length, num_scored)
            for starts, length, num_scored in self._plans
            for batch in self._batches(starts, length)
        ]
        total = sum(len(batch) * length for batch, length, _ in batches)
        done = 0
        for index, (batch, length, num_scored) in enumerate(batches):
            if self._share is None or self._share.computes(index):
                self._run_batch(batch[:, 1], batch[:, 0], length, num_scored)
            done += len(batch) * length
            is_round = self._share is None or self._share.ends_round(index) or index == len(batches) - 1
            if self._progress is not None and is_round:
                self._progress(done / total)
        if self._share is not None and batches:
            self.nll = self._share.join(self.nll)

    def _batches(self, starts: NDArray[np.int64], length: int) -> list[NDArray[np.int64]]:
        """Return pairs of start and row (N, 2), as many at once as fit in memory."""
        pairs = np.stack(np.meshgrid(starts, np.arange(self._ids.shape[0]), indexing="ij"), axis=-1).reshape(-1, 2)
        size = max(1, self._batch_tokens // min(length, self._segment or length))
        return [pairs[index : index + size] for index in range(0, len(pairs), size)]

    def _check_length(self, length: int) -> None:
        longest = longest_window(self._model, self._bos_id)
        if longest is not None and length > longest:
            raise UsageError(
                f"tokens must fit the model's {longest} positions in every window, got {length} tokens",
                hint=f"pass at most {longest + 1} tokens, or choose a context and a window that fit",
            )

    def _run_batch(self, rows: NDArray[np.int64], starts: NDArray[np.int64], length: int, num_scored: int) -> None:
        offsets = torch.from_numpy(starts).to(self._device)[:, None] + torch.arange(length + 1, device=self._device)
        windows = self._ids[torch.from_numpy(rows).to(self._device)[:, None], offsets]  # (N, length + 1)
        if self._bos_id is not None:
            windows = F.pad(windows, (1, 0), value=self._bos_id)  # (N, length + 2)
        if self._segment is not None and num_scored == length > self._segment:
            nll = self._carry(windows, self._segment)[:, -length:]
        else:
            nll = self._model.score(windows, num_scored, head_positions=self._head_positions, **self._measure)
        columns = starts[:, None] + np.arange(length - num_scored, length)
        self.nll[rows[:, None], columns] = nll.cpu().numpy()

    def _carry(self, windows: Tensor, segment: int) -> Tensor:
        """Return the NLL (N, L) of windows (N, L+1), read in segments that carry the state.

        The score of the first token after a BOS is among them.
        """
        parts, state = [], None
        for start in range(0, windows.shape[1] - 1, segment):
            part = windows[:, start : start + segment + 1]
            nll, state = self._model.carry(part, state, head_positions=self._head_positions, **self._measure)
            parts.append(nll)
        return torch.cat(parts, dim=1)
