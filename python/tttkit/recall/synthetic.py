"""Accuracy in the synthetic tasks (`tttkit.data.tasks`): is the most probable next word the right answer?

A model is trained on the task first (`tttkit train --preset mqar`), on examples as long as the window. All models get
the same examples, so that differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tttkit.analyze.intervals import bootstrap
from tttkit.data.tasks import TASKS, VOCABULARY, Examples
from tttkit.data.tasks.examples import SHORTEST
from tttkit.errors import UsageError
from tttkit.evaluate.memory import batch_tokens, head_positions
from tttkit.evaluate.request import EvaluationJob
from tttkit.models.scoring import ScoringModel
from tttkit.results.recall import AccuracyRow, DistanceRow, TaskRecall

MULTIPLES = (1, 2, 5, 10, 20)
"""The usual lengths, as multiples of the window W."""
Floats = NDArray[np.float64]


def measure(
    job: EvaluationJob,
    task: str,
    *,
    lengths: Sequence[int],
    num_examples: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> TaskRecall:
    """Measure the accuracy of a model in `task` at each length in tokens.

    Raises UsageError for a model that does not know the words of the tasks, or cannot read such a length.
    """
    _check(job, lengths)
    rows: list[AccuracyRow] = []
    distances: list[DistanceRow] = []
    scores: dict[int, list[float]] = {}
    done, total = 0, sum(lengths)
    for length in lengths:
        examples = TASKS[task](num_examples, length - 1, np.random.default_rng((seed, length)))
        right = answers(job.model, examples)
        share = _mean_over(right, examples.is_answer)
        rows += _accuracy_rows(length, examples, right, share)
        distances += _distance_rows(length, examples, right)
        scores[length] = share.tolist()
        done += length
        if progress is not None:
            progress(done / total)
    kept = ("model", "path", "data_fingerprint", "weights_sha256", "dtype")
    facts = {
        "task": task, **{name: job.facts.get(name) for name in kept}, "window": job.window,
        "num_examples": num_examples, "seed": seed,
    }  # fmt: skip
    return TaskRecall(facts=facts, rows=tuple(rows), distances=tuple(distances), scores=scores)


@torch.no_grad()
def answers(model: ScoringModel, examples: Examples) -> NDArray[np.bool_]:
    """Return which words of the examples the model predicts, (N, L) bool; it reads the words before each."""
    ids = torch.from_numpy(examples.words).to(model.device)
    length = ids.shape[1] - 1
    rows = max(1, batch_tokens(model.bytes_per_token(), model.device) // length)
    at_once = head_positions(model.vocab_size, model.device)
    was_training = model.training
    model.eval()
    try:
        parts = [
            model.predict(part[:, :-1], length, head_positions=at_once) == part[:, 1:]
            for part in torch.split(ids, rows)
        ]
    finally:
        model.train(was_training)
    right = torch.cat(parts).cpu().numpy()
    return np.concatenate([np.zeros((len(right), 1), dtype=bool), right], axis=1) & examples.is_answer


def difference(first: TaskRecall, other: TaskRecall) -> list[tuple[int, float, float, float]]:
    """Return length, mean difference of accuracy (other - first) and its 95 % interval, paired by example."""
    rows = []
    for length, scores in first.scores.items():
        rows.append((length, *_interval(np.asarray(other.scores[length]) - np.asarray(scores), least=-1.0)))
    return rows


def _check(job: EvaluationJob, lengths: Sequence[int]) -> None:
    if job.split.vocab_size != VOCABULARY or job.model.vocab_size < VOCABULARY:
        raise UsageError(
            f"{job.facts.get('path')} was not trained on the words of the synthetic tasks",
            hint="train a model on one: `tttkit train --preset mqar`; or use --task second-copy",
        )
    limit = job.model.max_positions
    if limit is not None and max(lengths) > limit:
        raise UsageError(
            f"the longest example has {max(lengths):,} tokens, but {job.model.name} has {limit:,} positions"
        )
    if min(lengths) < SHORTEST:
        raise UsageError(f"examples need at least {SHORTEST} tokens, got --length {min(lengths)}")


def _mean_over(right: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Floats:
    """Return the share of `counted` words that are right in each example, (N,); NaN if none counts."""
    count = counted.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((right & counted).sum(axis=1) / np.where(count, count, np.nan))


def _interval(scores: Floats, least: float = 0.0) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval, within `least` … 1, which Student's t of few examples may leave."""
    result = bootstrap(scores[:, None])
    low, high = (float(np.clip(bound[0], least, 1.0)) for bound in (result.low, result.high))
    return float(result.observed[0]), low, high


def _accuracy_rows(length: int, examples: Examples, right: NDArray[np.bool_], share: Floats) -> list[AccuracyRow]:
    """Return a row for all examples, and one for each size if there are several."""
    exact = (right == examples.is_answer).all(axis=1)
    sizes = np.unique(examples.size).tolist()
    groups: list[tuple[int | None, NDArray[np.bool_]]] = [(None, np.ones(len(share), dtype=bool))]
    # `copy` has as many sizes as examples, which say no more than the length
    if 1 < len(sizes) <= len(share) // 4:
        groups += [(size, examples.size == size) for size in sizes]
    rows = []
    for size, chosen in groups:
        accuracy, low, high = _interval(share[chosen])
        rows.append(
            AccuracyRow(
                length=length, size=size, accuracy=accuracy, low=low, high=high, exact=float(exact[chosen].mean()),
                examples=int(chosen.sum()),
            )
        )  # fmt: skip
    return rows


def _distance_rows(length: int, examples: Examples, right: NDArray[np.bool_]) -> list[DistanceRow]:
    """Return a row for each doubling of the distance at which answers occur."""
    rows, reach = [], 1
    while reach < 2 * length:
        counted = (examples.distance > reach // 2) & (examples.distance <= reach)
        share = _mean_over(right, counted)
        share = share[np.isfinite(share)]
        if len(share) > 1:
            accuracy, low, high = _interval(share)
            rows.append(
                DistanceRow(length=length, distance=reach, accuracy=accuracy, low=low, high=high, examples=len(share))
            )
        reach *= 2
    return rows
