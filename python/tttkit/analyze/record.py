"""One run as its files tell it, ours or the earlier system's. What they do not tell is None."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tttkit.analyze import legacy
from tttkit.analyze.contest import PREFIXES
from tttkit.errors import DataError, UsageError
from tttkit.run.directory import RunDirectory

SEQUENCES_NAME = "chunk_nll.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceNll:
    """Mean NLL of each chunk of each sequence: what paired intervals are made from."""

    contexts: dict[str, NDArray[np.float64]]
    """Context to nats, (sequences, chunks); NaN where a mode did not compute."""
    ends: NDArray[np.int64]
    """Position after the last of each chunk."""
    documents: NDArray[np.uint32]
    """Number of the document that each sequence begins in, counted from 0."""
    starts: NDArray[np.int64] | None = None
    """Where each sequence begins in its split; None in files that did not record it."""

    def same_text(self, other: SequenceNll) -> bool:
        """Whether both are NLL of the same places of a split."""
        if self.starts is None or other.starts is None:
            known = self.starts is other.starts
        else:
            known = np.array_equal(self.starts, other.starts)
        return known and self.contexts["full"].shape == other.contexts["full"].shape

    def column(self, window: int, multiple: int) -> int | None:
        """Chunk that stands for `multiple` x W: the last with end <= m W; None where the positions end before."""
        inside = np.flatnonzero(self.ends <= multiple * window)
        reached = inside.size and (inside[-1] + 1 < self.ends.size or self.ends[-1] == multiple * window)
        return int(inside[-1]) if reached else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One evaluation of a run."""

    step: int | None
    tokens: int | None
    summary: dict[str, Any]
    directory: Path

    def perplexity(self, context: str, multiple: int) -> float | None:
        """Perplexity of a context at `multiple` x W, where it is known and finite."""
        return number(self.summary.get(f"{PREFIXES[context]}_ppl_at_{multiple}xW"))

    def sequences(self) -> SequenceNll | None:
        """NLL by sequence, None where it was not kept. Raises DataError when the file is damaged."""
        return read_sequences(self.directory)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that analysis needs from a run."""

    name: str
    path: Path
    is_legacy: bool
    model: str | None
    window: int | None
    metadata: dict[str, Any]
    checkpoints: tuple[Checkpoint, ...]
    metrics: list[dict[str, Any]]
    unknown: tuple[str, ...]
    """What its files cannot tell, a sentence each."""

    @property
    def config(self) -> dict[str, Any]:
        """Sections of the resolved configuration; for the earlier system its flat settings."""
        return dict(self.metadata.get("config", {}))

    @property
    def axis(self) -> str:
        """`tokens` where every checkpoint has them, else `steps`: what curves are measured along."""
        return "tokens" if all(item.tokens is not None for item in self.checkpoints) else "steps"

    def position(self, checkpoint: Checkpoint) -> float:
        """Where a checkpoint lies on the axis."""
        value = checkpoint.tokens if self.axis == "tokens" else checkpoint.step
        return float(value or 0)

    def multiples(self) -> list[int]:
        """Labels m that the last checkpoint has a perplexity for."""
        known = (m for m in legacy.LABELS if self.checkpoints and self.checkpoints[-1].perplexity("full", m))
        return list(known)

    def criterion(self) -> str:
        """The figure that convergence is judged by: selection_ppl, or the earlier system's PPL@1xW or mean."""
        for name in ("selection_ppl", "ttt_ppl_at_1xW"):
            if any(number(item.summary.get(name)) for item in self.checkpoints):
                return name
        return "ttt_ppl_mean"

    def series(self, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(position on the axis, value) of a key of summary.json, after step 0, where it is known and positive."""
        pairs = [(self.position(item), number(item.summary.get(key))) for item in self.checkpoints if item.step != 0]
        known = [(position, value) for position, value in pairs if value is not None and value > 0]
        return np.array([p for p, _ in known], dtype=np.float64), np.array([v for _, v in known], dtype=np.float64)


def load(run: RunDirectory) -> Record:
    """Read a run. Raises DataError when a file is damaged, UsageError when it has no evaluation yet."""
    metadata, summaries = legacy.read_metadata(run), legacy.read_summaries(run)
    if not summaries:
        raise UsageError(
            f"{run.results or run.path} has no evaluation yet",
            hint=f"look at it with `tttkit status {run.argument}`",
        )
    checkpoints = [
        Checkpoint(
            step=item.get("step"), tokens=item.get("tokens_seen"), summary=item,
            directory=run.checkpoint(int(item.get("checkpoint_idx", index))),
        )
        for index, item in enumerate(summaries)
    ]  # fmt: skip
    checkpoints.sort(key=lambda item: -1 if item.step is None else item.step)
    model = metadata.get("model")
    name = summaries[-1].get("model") or (model.get("name") if isinstance(model, dict) else None)
    window = summaries[-1].get("training_window") or metadata.get("training_window")
    return Record(
        name=run.results.stem if run.results else run.path.resolve().name,
        path=run.results or run.path,
        is_legacy=legacy.is_legacy(run),
        model=name,
        window=window,
        metadata=metadata,
        checkpoints=tuple(checkpoints),
        metrics=run.read_metrics(),
        unknown=tuple(legacy.unknowns(run, summaries)),
    )


def read_sequences(directory: Path) -> SequenceNll | None:
    """NLL by sequence of the evaluation in a directory, None where there is none. Raises DataError when damaged."""
    path = directory / SEQUENCES_NAME
    if not path.exists():
        return None
    try:
        arrays = load_file(path)
        contexts = {name: arrays[name].astype(np.float64) for name in PREFIXES if name in arrays}
        return SequenceNll(
            contexts=contexts, ends=arrays["ends"], documents=arrays["documents"].astype(np.uint32),
            starts=arrays.get("starts"),
        )  # fmt: skip
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path} does not hold NLL by sequence: {error}") from error


def number(value: Any) -> float | None:
    """A finite number; None for null and for the strings that stand for NaN and infinity in JSON."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if usable else None
