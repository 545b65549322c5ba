"""Measure one model on one split by one protocol: NLL in every context (docs/protocol.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tttkit.config.run import EvaluationConfig
from tttkit.data.split import Split
from tttkit.errors import DataError
from tttkit.evaluate.blocks import SELECTION, NllBlocks
from tttkit.evaluate.bos import bos_in_front, longest_window
from tttkit.evaluate.dynamic import DynamicRule
from tttkit.evaluate.evaluation import Evaluation, perplexity
from tttkit.evaluate.memory import fitting_segment
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.plan import costs, labelled_positions, positions_only
from tttkit.evaluate.runner import Share
from tttkit.evaluate.sequences import check_positions, check_sizes, check_vocabulary, cut_sequences, spread
from tttkit.models.scoring import ScoringModel
from tttkit.results.contexts import evaluation_order

Integers = NDArray[np.int64]


def evaluate_model(
    model: ScoringModel,
    split: Split,
    protocol: EvaluationConfig,
    *,
    window: int,
    bos: str = "never",
    dynamic: DynamicRule | None = None,
    progress: Callable[[float], None] | None = None,
    blocks: NllBlocks | None = None,
    share: Share | None = None,
) -> Evaluation:
    """Measure the contexts on `num_sequences` disjoint sequences of T+1 tokens spread evenly over a split, in order.

    `bos` is as in `token_nll`. `dynamic` is measured if there is a rule for it. `full` and `dynamic` end at the
    learned positions of a model that has such, and `dynamic` has none for a model that cannot be read in segments.
    For `full`, a text that does not fit in memory is read in segments. `progress` is called between batches with the
    share done, and may raise to stop. With `blocks`, finished parts are kept, so that the same call continues from
    there. With `share`, several processes do a part each and all return the same. Raises UsageError when the split
    holds fewer sequences or when window, chunks, inner mini-batch and the model's positions do not fit together,
    DataError when the split holds no sequence or has ids that the model does not know.
    """
    check_vocabulary(model, split)
    check_sizes(protocol, window, model.mini_batch_size)
    longest = longest_window(model, bos_in_front(model, bos))
    check_positions(model, longest, window)
    sequences, starts = cut_sequences(split, protocol.num_sequences, protocol.max_length)
    requested = () if dynamic is None else ("dynamic",)
    tokens = costs(protocol, window, model.mini_batch_size, requested)
    stages = _Stages(model, window, bos, longest, dynamic, tokens, progress, blocks, share)
    windows = _selection_windows(split, protocol, window)
    selection = stages.run(SELECTION, "full", windows, None)[:, window - protocol.chunk_size :]
    nll: dict[str, NDArray[np.float32]] = {}
    for context in evaluation_order(requested):
        if context == "sw" and model.mini_batch_size == 1:
            # With an inner mini-batch of one token the windows of sw and sw_aligned are the same.
            nll[context] = nll["sw_aligned"]
            stages.skip(context)
        else:
            at_labels = positions_only(protocol, context, model.mini_batch_size)
            positions = labelled_positions(protocol, window) if at_labels else None
            nll[context] = stages.run(context, context, sequences, positions)
    documents = np.searchsorted(split.document_ends, starts, side="right").astype(np.int64)
    return Evaluation(
        protocol=protocol, window=window, nll=nll, selection_ppl=perplexity(selection),
        selection_windows=len(windows), starts=starts, documents=documents,
    )  # fmt: skip


@dataclasses.dataclass
class _Stages:
    """Runs the stages of an evaluation one after another and reports the progress."""

    model: ScoringModel
    window: int
    bos: str
    longest: int | None
    """Most tokens of a window that the model can read; None for no limit."""
    dynamic: DynamicRule | None
    costs: Mapping[str, float]
    """Tokens that each stage runs through the model."""
    progress: Callable[[float], None] | None
    blocks: NllBlocks | None
    share: Share | None
    done: float = 0.0
    """Tokens of the finished stages."""

    def run(self, stage: str, context: str, sequences: Integers, positions: Integers | None) -> NDArray[np.float32]:
        """Return the NLL of sequences (B, T+1) in a context, float32 (B, T)."""
        cost, total = self.costs[stage], sum(self.costs.values())

        def tick(share: float) -> None:
            if self.progress is not None:
                self.progress((self.done + share * cost) / total)

        compute = partial(self._compute, context=context, positions=positions)
        if self.blocks is None:
            nll = compute(sequences, progress=tick)
        else:
            settings = str(self.dynamic.config) if self.dynamic is not None and context == "dynamic" else ""
            nll = self.blocks.fill(stage, sequences, compute, tick, settings=settings)
        self.skip(stage)
        return nll

    def _compute(
        self,
        tokens: Integers,
        *,
        context: str,
        positions: Integers | None,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return the NLL (B, T) of sequences (B, T+1), NaN where the model cannot be read in this context."""
        read = tokens.shape[1] - 1
        nll = np.full((tokens.shape[0], read), np.nan, dtype=np.float32)
        if context == "dynamic" and not self.model.can_carry:
            return nll
        if context in ("full", "dynamic") and self.longest is not None:
            read = min(read, self.longest)
        segment = fitting_segment(self.model, read) if context == "full" else None
        if self.share is not None:
            segment = self.share.agree(segment or read)
            segment = segment if segment < read else None
        known = token_nll(
            self.model, tokens[:, : read + 1], context, window=self.window, positions=positions, segment=segment,
            bos=self.bos, dynamic=self.dynamic, progress=progress,
            share=self.share,
        )  # fmt: skip
        nll[:, :read] = known
        return nll

    def skip(self, stage: str) -> None:
        """Count a stage as done."""
        self.done += self.costs[stage]


def _selection_windows(split: Split, protocol: EvaluationConfig, window: int) -> Integers:
    """Return the windows for selection_ppl, spread over the split, (windows, W + 1). Raises DataError."""
    num_windows = (split.num_tokens - 1) // window
    if num_windows == 0:
        raise DataError(f"the split has {split.num_tokens} tokens, but one window of W={window} needs {window + 1}")
    starts = spread(num_windows, min(num_windows, protocol.selection_windows)) * window
    return np.stack([split.tokens(start, start + window + 1) for start in starts.tolist()]).astype(np.int64)
