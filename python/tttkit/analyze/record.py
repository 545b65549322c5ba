"""One run as its files describe it, whether ours or the earlier system's. Facts that they do not record are None."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tttkit.analyze import earlier_system
from tttkit.errors import DataError, UsageError
from tttkit.results.contexts import CONTEXTS, LABELS
from tttkit.results.summary import SELECTION_KEY, Summary, mean_key, perplexity_key
from tttkit.results.values import SEQUENCES_NAME
from tttkit.run.directory import RunDirectory
from tttkit.run.parent import past_tokens
from tttkit.storage import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceNll:
    """Mean NLL of each chunk of each sequence, from which paired intervals are computed."""

    contexts: dict[str, NDArray[np.float64]]
    """Nats by context, (sequences, chunks); NaN where a mode did not compute them or they are infinite."""
    ends: NDArray[np.int64]
    """Position after the last token of each chunk."""
    documents: NDArray[np.uint32]
    """Number of the document that each sequence begins in, counted from 0."""
    starts: NDArray[np.int64] | None = None
    """Where each sequence begins in its split; None in files that did not record it."""

    def same_text(self, other: SequenceNll) -> bool:
        """Whether both hold NLL of the same positions of a split."""
        if self.starts is None or other.starts is None:
            same_starts = self.starts is other.starts
        else:
            same_starts = np.array_equal(self.starts, other.starts)
        return same_starts and self.contexts["full"].shape == other.contexts["full"].shape

    def column(self, window: int, multiple: int) -> int | None:
        """Return the index of the chunk for `multiple` x W, the last with end <= m W; None if the text is shorter."""
        inside = np.flatnonzero(self.ends <= multiple * window)
        reached = inside.size and (inside[-1] + 1 < self.ends.size or self.ends[-1] == multiple * window)
        return int(inside[-1]) if reached else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordedEvaluation:
    """One evaluation of a run."""

    summary: Summary
    directory: Path

    @property
    def step(self) -> int | None:
        """Optimizer updates done before it."""
        return self.summary.step

    @property
    def tokens(self) -> int | None:
        """Training tokens seen before it."""
        return self.summary.tokens

    def sequences(self) -> SequenceNll | None:
        """Read NLL by sequence; None if it was not kept. Raises DataError when the file is damaged."""
        return read_sequences(self.directory)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that the analysis needs from a run."""

    name: str
    path: Path
    is_legacy: bool
    model: str | None
    window: int | None
    metadata: dict[str, Any]
    evaluations: tuple[RecordedEvaluation, ...]
    """In order of step, at least one."""
    metrics: list[dict[str, Any]]
    unknown: tuple[str, ...]
    """A sentence for each fact that the files do not record."""

    @property
    def config(self) -> dict[str, Any]:
        """Sections of the resolved configuration; for the earlier system its flat settings."""
        return dict(self.metadata.get("config", {}))

    @property
    def past_tokens(self) -> int | None:
        """Training tokens of the weights that the run started with; None if they are not known."""
        return past_tokens(self.metadata)

    def total_tokens(self, evaluation: RecordedEvaluation) -> int | None:
        """Return the training tokens before an evaluation, with those of the past; None if they are not known."""
        past, own = self.past_tokens, evaluation.tokens
        return None if past is None or own is None else past + own

    @property
    def axis(self) -> str:
        """The unit in which curves are measured: `tokens` if every evaluation records them, else `steps`."""
        return "tokens" if all(item.tokens is not None for item in self.evaluations) else "steps"

    def position(self, evaluation: RecordedEvaluation) -> float:
        """Return the position of an evaluation on the axis."""
        value = evaluation.tokens if self.axis == "tokens" else evaluation.step
        return float(value or 0)

    def multiples(self) -> list[int]:
        """Return the labels m for which the last evaluation has a perplexity."""
        return [m for m in LABELS if self.evaluations and self.evaluations[-1].summary.perplexity("full", m)]

    def criterion(self) -> str:
        """Return the key of the figure for convergence: selection_ppl, or the earlier system's PPL@1xW or mean."""
        for key in (SELECTION_KEY, perplexity_key("full", 1)):
            if any(item.summary.value(key) for item in self.evaluations):
                return key
        return mean_key("full")

    def series(self, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return positions on the axis and the known, positive values of a key of summary.json, after step 0."""
        pairs = [(self.position(item), item.summary.value(key)) for item in self.evaluations if item.step != 0]
        known = [(position, value) for position, value in pairs if value is not None and value > 0]
        return np.array([p for p, _ in known], dtype=np.float64), np.array([v for _, v in known], dtype=np.float64)


def load(run: RunDirectory) -> Record:
    """Read a run. Raises DataError when a file is damaged, UsageError when it has no evaluation yet."""
    metadata, summaries = earlier_system.read_metadata(run), earlier_system.read_summaries(run)
    if not summaries:
        raise UsageError(
            f"{run.results or run.path} has no evaluation yet",
            hint=f"look at it with `tttkit status {run.argument}`",
        )
    evaluations = [
        RecordedEvaluation(
            summary=summary, directory=run.checkpoint(position if summary.index is None else summary.index)
        )
        for position, summary in enumerate(summaries)
    ]
    evaluations.sort(key=lambda item: -1 if item.step is None else item.step)
    model = metadata.get("model")
    return Record(
        name=run.results.stem if run.results else run.path.resolve().name,
        path=run.results or run.path,
        is_legacy=earlier_system.is_legacy(run),
        model=summaries[-1].model or (model.get("name") if isinstance(model, dict) else None),
        window=summaries[-1].window or metadata.get("training_window"),
        metadata=metadata,
        evaluations=tuple(evaluations),
        metrics=run.read_metrics(),
        unknown=tuple(earlier_system.unknowns(run, summaries)),
    )


def read_sequences(directory: Path) -> SequenceNll | None:
    """Read NLL by sequence of the evaluation in a directory; None if there is none. Raises DataError when damaged."""
    path = directory / SEQUENCES_NAME
    if not path.exists():
        return None
    try:
        with files.utf8_name(path) as name:
            arrays = load_file(name)
        contexts = {name: _finite(arrays[name].astype(np.float64)) for name in CONTEXTS if name in arrays}
        return SequenceNll(
            contexts=contexts, ends=arrays["ends"], documents=arrays["documents"].astype(np.uint32),
            starts=arrays.get("starts"),
        )  # fmt: skip
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path} does not hold NLL by sequence: {error}") from error


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values with NaN in place of infinities, from which no difference could be taken."""
    return np.where(np.isfinite(values), values, np.nan)
