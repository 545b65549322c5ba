"""Synthetic tasks: the share of answers that a model predicts, by length, number of items and distance.

An answer counts as given if its token has the highest logit. Token accuracy is the mean over the answers of an example;
an example is exact if all its answers are given. The unit of all intervals is the example.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze.intervals import bootstrap_shares
from tttkit.data.synthetic.examples import Examples
from tttkit.data.synthetic.tasks import make_examples, task_entry
from tttkit.data.synthetic.vocabulary import VOCAB_SIZE, tokenizer_json
from tttkit.errors import DataError, UsageError
from tttkit.evaluate.blocks import Arrays, NllBlocks, share_of
from tttkit.evaluate.bos import bos_in_front, longest_window
from tttkit.evaluate.memory import fitting_segment
from tttkit.evaluate.nll import token_nll
from tttkit.evaluate.tokenizers import tokenizer_of, vocabulary_and_merges
from tttkit.models.scoring import ScoringModel, is_predicted
from tttkit.recall.fitting import too_short
from tttkit.results.recall import AccuracyRow, DistanceRow

MULTIPLES = (1, 2, 5, 10, 20)
"""The usual lengths of an example, as multiples of the window W."""
CONTEXTS = ("full", "sw", "sw_aligned", "reset")
"""The contexts in which examples can be read; `dynamic` learns from what it reads, which is another question."""
Floats = NDArray[np.float64]
Progress = Callable[[float], None]


class Setting(NamedTuple):
    """Examples of one length and number of items, read in one context."""

    length: int
    size: int
    context: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerTask:
    """A synthetic task as it is measured."""

    name: str
    window: int
    """The window W of the contexts other than `full`."""
    lengths: Sequence[int]
    sizes: Sequence[int] = ()
    """Numbers of items; empty for the usual ones of the task. Those that do not fit in a length are left out."""
    contexts: Sequence[str] = ("full",)
    num_examples: int = 64
    seed: int = 0
    bos: str = "auto"

    def settings(self) -> list[Setting]:
        """Return all settings in order. Raises UsageError for an unknown task or context, or if none fits."""
        entry, sizes = task_entry(self.name), self._sizes()
        unknown = next((context for context in self.contexts if context not in CONTEXTS), None)
        if unknown is not None:
            raise UsageError(f"unknown context `{unknown}`", hint=f"known: {', '.join(CONTEXTS)}")
        settings = [
            Setting(length, size, context)
            for length in sorted(set(self.lengths))
            for size in sizes
            if entry.smallest(size) <= length
            for context in dict.fromkeys(self.contexts)
        ]
        if not settings:
            shortest = entry.smallest(min(sizes))
            raise UsageError(
                f"{self.name} needs examples of at least {shortest} tokens, got {max(self.lengths)}",
                hint="name a longer --length",
            )
        return settings

    def left_out(self) -> dict[str, str]:
        """Return the numbers of items that do not fit in a length, and why."""
        smallest = task_entry(self.name).smallest
        needed = {f"{size} item{'s' if size > 1 else ''}": smallest(size) for size in self._sizes()}
        return too_short(needed, self.lengths)

    def _sizes(self) -> Sequence[int]:
        entry = task_entry(self.name)
        return sorted(set(self.sizes)) if self.sizes and entry.has_sizes else entry.sizes


def measure_answers(
    model: ScoringModel, task: AnswerTask, *, blocks: NllBlocks | None = None, progress: Progress | None = None
) -> tuple[tuple[AccuracyRow, ...], Floats]:
    """Return a row per setting, and the token accuracy of every example (rows) in every setting (columns).

    Finished settings are kept in `blocks`. Raises UsageError, DataError before anything is measured.
    """
    settings = task.settings()
    check_model(model, task)
    total, done = sum(setting.length for setting in settings), 0
    rows, columns = [], []
    for setting in settings:
        examples = make_examples(task.name, task.num_examples, setting.length, setting.size, task.seed)
        tick = share_of(progress, done / total, setting.length / total)
        hits = _kept(blocks, model, task, setting, examples, tick)
        rows.append(_row(setting, hits, examples.distances[:, 1:]))
        columns.append(np.nanmean(hits, axis=1))
        done += setting.length
        tick(1.0)
    return tuple(rows), np.stack(columns, axis=1)


def check_model(model: ScoringModel, task: AnswerTask) -> None:
    """Refuse a model that does not know the tokens of the task or cannot read its longest example."""
    if model.vocab_size < VOCAB_SIZE:
        raise DataError(
            f"{task.name} has {VOCAB_SIZE:,} tokens, but {model.name} knows {model.vocab_size:,}",
            hint=f"train a model on the task: tttkit train --preset {task.name}",
        )
    if "sw_aligned" in task.contexts and task.window < model.mini_batch_size:
        raise UsageError(
            f"sw_aligned needs a window of at least {model.mini_batch_size} tokens, one inner mini-batch, "
            f"got {task.window}",
            hint="name a longer --window",
        )
    longest = longest_window(model, bos_in_front(model, task.bos))
    if longest is not None and max(task.lengths) > longest and "full" in task.contexts:
        raise UsageError(
            f"the longest example has {max(task.lengths):,} tokens, but {model.name} reads at most {longest:,}",
            hint="name shorter examples: --length N",
        )


def about_tokens(directory: Path, task: str) -> str | None:
    """Return a sentence for the user if the tokens of a model directory are not those of the task, else None."""
    own = tokenizer_of(directory)
    if own is None or vocabulary_and_merges(own) == vocabulary_and_merges(json.loads(tokenizer_json())):
        return None
    return f"{directory} has a tokenizer for text, so it was not trained on {task}: its tokens mean nothing to it"


def answered(
    model: ScoringModel,
    task: AnswerTask,
    setting: Setting,
    examples: Examples,
    progress: Progress | None = None,
) -> Floats:
    """Return 1 for each answer that the model gives and 0 for others, NaN elsewhere: (N, L-1) for tokens 1 … L-1."""
    is_answer = examples.distances[:, 1:] > 0
    length = examples.tokens.shape[1] - 1
    hits = token_nll(
        model, examples.tokens, setting.context, window=task.window, positions=np.flatnonzero(is_answer.any(axis=0)),
        segment=fitting_segment(model, length) if setting.context == "full" else None, bos=task.bos,
        progress=progress, measure=is_predicted,
    )  # fmt: skip
    return np.where(is_answer, hits, np.nan)


def _kept(
    blocks: NllBlocks | None,
    model: ScoringModel,
    task: AnswerTask,
    setting: Setting,
    examples: Examples,
    progress: Progress,
) -> Floats:
    def compute() -> Arrays:
        return {"hits": answered(model, task, setting, examples, progress)}

    if blocks is None:
        return compute()["hits"]
    return blocks.arrays("-".join(map(str, setting)), compute)["hits"]


def _row(setting: Setting, hits: Floats, distances: NDArray[np.int64]) -> AccuracyRow:
    """Return token and exact accuracy of a setting, and token accuracy by distance, in octaves."""
    exact = np.where(np.isnan(hits), 1.0, hits).min(axis=1)
    both = bootstrap_shares(np.stack([np.nanmean(hits, axis=1), exact], axis=1))
    octaves = np.floor(np.log2(np.maximum(distances, 1))).astype(int)
    known = sorted(set(octaves[distances > 0].tolist()))
    return AccuracyRow(
        **setting._asdict(), num_examples=len(hits),
        accuracy=float(both.observed[0]), low=float(both.low[0]), high=float(both.high[0]),
        exact=float(both.observed[1]), exact_low=float(both.low[1]), exact_high=float(both.high[1]),
        by_distance=tuple(_distance_row(octave, hits, (octaves == octave) & (distances > 0)) for octave in known),
    )  # fmt: skip


def _distance_row(octave: int, hits: Floats, chosen: NDArray[np.bool_]) -> DistanceRow:
    """Return the accuracy over examples with an answer at distances 2^octave … 2^(octave + 1) - 1."""
    counts = chosen.sum(axis=1)
    means = np.where(chosen, hits, 0.0).sum(axis=1)[counts > 0] / counts[counts > 0]
    interval = bootstrap_shares(means[:, None])
    return DistanceRow(
        first=1 << octave, last=(2 << octave) - 1, num_examples=len(means),
        accuracy=float(interval.observed[0]), low=float(interval.low[0]), high=float(interval.high[0]),
    )  # fmt: skip
