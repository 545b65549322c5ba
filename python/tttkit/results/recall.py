"""The schema of recall.json: what a model remembers of what it has read, by distance."""

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
