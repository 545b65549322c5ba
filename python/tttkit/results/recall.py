"""The schema of recall.json: what a model remembers of what it has read, by distance or by length."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.storage.files import make_directory, write_json

RECALL_NAME = "recall.json"
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecallRow:
    """Means over all examples at one distance, in nats per token, with the 95 % interval of the paired drop."""

    distance: int
    """Tokens between the two copies."""
    first: float
    second: float
    drop: float
    """NLL of the first copy minus NLL of the second copy."""
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recall:
    """Results of one model in one task."""

    facts: Mapping[str, Any]
    """Model, data, window and seed: what was measured, and how."""
    rows: tuple[RecallRow, ...]
    drops: list[list[float]]
    """Drop of each example (outer list) at each distance (inner list)."""

    def write(self, path: Path) -> None:
        """Write recall.json, and make its directory if it is missing."""
        make_directory(path.parent)
        write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of recall.json."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return {"schema_version": SCHEMA_VERSION, **self.facts, "rows": rows, "drops": self.drops}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """Share of right answers at one length of the examples, with its 95 % interval over examples."""

    length: int
    """Tokens of an example."""
    size: int | None
    """How many things the examples ask to remember; None for all examples."""
    accuracy: float
    """Mean over examples of the share of answers that are right."""
    low: float
    high: float
    exact: float
    """Share of examples whose answers are all right."""
    examples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistanceRow:
    """Share of right answers among those whose words were read up to `distance` tokens ago, with its interval."""

    length: int
    distance: int
    """Largest distance of the answers that count, more than half of it being the smallest."""
    accuracy: float
    low: float
    high: float
    examples: int
    """Examples with such an answer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskRecall:
    """Results of one model in a synthetic task."""

    facts: Mapping[str, Any]
    """Model, task, window and seed: what was measured, and how."""
    rows: tuple[AccuracyRow, ...]
    distances: tuple[DistanceRow, ...]
    scores: dict[int, list[float]]
    """Share of right answers of each example, by length."""

    def write(self, path: Path) -> None:
        """Write recall.json, and make its directory if it is missing."""
        make_directory(path.parent)
        write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of recall.json."""
        rows, distances = ([dataclasses.asdict(row) for row in part] for part in (self.rows, self.distances))
        scores = {str(length): values for length, values in self.scores.items()}
        return {"schema_version": SCHEMA_VERSION, **self.facts, "rows": rows, "distances": distances, "scores": scores}
