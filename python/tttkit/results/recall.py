"""The schema of recall.json: what a model remembers of what it has read, by distance, length and number of items."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttkit.results.values import checked_object, number
from tttkit.storage import files

RECALL_NAME = "recall.json"
FIGURE_NAME = "recall.png"
SCHEMA_VERSION = 4
"""Version 2 added tasks that are scored by accuracy, version 3 passkey, ruler and documents, version 4 `left_out`; all
are still read."""
SECOND_COPY = "second-copy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecallRow:
    """Means over all examples at one distance, in nats per token, with the 95 % intervals of the paired drop.

    The intervals are over examples, and over whole documents; the second one is None if all lie in one document.
    """

    distance: int
    """Tokens between the two copies."""
    first: float
    second: float
    drop: float
    """NLL of the first copy minus NLL of the second copy."""
    low: float
    high: float
    document_low: float | None
    document_high: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistanceRow:
    """Token accuracy of the answers `first … last` tokens after the place where they were given."""

    first: int
    last: int
    num_examples: int
    """Examples that have such an answer."""
    accuracy: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """Accuracy over the examples of one length and number of items in one context, with 95 % intervals."""

    length: int
    """Tokens of an example."""
    size: int
    """Items to remember, for mqar the pairs; 0 if the length says how many."""
    context: str
    num_examples: int
    accuracy: float
    """Share of the answers that are given, the mean over examples."""
    low: float
    high: float
    exact: float
    """Share of the examples of which all answers are given."""
    exact_low: float
    exact_high: float
    by_distance: tuple[DistanceRow, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundRow:
    """Answers to questions about a text, over the examples of one kind and length, with 95 % intervals."""

    part: str
    """The kind of question."""
    length: int
    """Tokens of prompt and answer."""
    depth: float | None
    """Share of the text that stands before the statement; None for random places."""
    num_examples: int
    nll: float
    """NLL in nats of a right answer given the prompt, the sum over its tokens."""
    low: float
    high: float
    found: float
    """Share of right answers in the greedy continuation, the mean over examples."""
    found_low: float
    found_high: float


@dataclasses.dataclass(frozen=True)
class Recall:
    """The content of recall.json: results of one model in one task."""

    values: Mapping[str, Any]

    @staticmethod
    def of(
        facts: Mapping[str, Any], rows: Sequence[RecallRow | AccuracyRow | FoundRow], **examples: Sequence[Any]
    ) -> Recall:
        """Return the results with the facts about model, data and seed.

        `examples` are the scores of each example (outer list) in each row (inner list) by their names: drops,
        accuracies, or nlls and found.
        """
        return Recall({**facts, "rows": [dataclasses.asdict(row) for row in rows], **examples})

    @staticmethod
    def read(path: Path) -> Recall:
        """Read recall.json. Raises DataError if it is missing, damaged or of a newer schema."""
        return Recall(checked_object(files.read_json(path), path, newest=SCHEMA_VERSION))

    def write(self, path: Path) -> None:
        """Write recall.json, and make its directory if it is missing."""
        files.make_directory(path.parent)
        files.write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of recall.json."""
        return {"schema_version": SCHEMA_VERSION, **self.values}

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.values["task"])

    @property
    def is_second_copy(self) -> bool:
        """Whether the score is the drop of the NLL."""
        return self.task == SECOND_COPY

    @property
    def is_about_text(self) -> bool:
        """Whether questions about a text were answered (passkey, ruler); the scores are NLL and share found."""
        return "nlls" in self.values

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """The rows, with the fields of RecallRow, AccuracyRow or FoundRow as keys."""
        return list(self.values["rows"])

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why settings were not measured, by their names; empty in files of version 3 and before."""
        reasons: Mapping[str, str] = self.values.get("left_out", {})
        return reasons

    def table_rows(self) -> list[dict[str, str]]:
        """Return the figures of each row as texts, by the heads of the table."""
        cells = _drop_cells if self.is_second_copy else _found_cells if self.is_about_text else _accuracy_cells
        return [cells(row) for row in self.rows]


def _drop_cells(row: Mapping[str, Any]) -> dict[str, str]:
    figures = {"first copy": "first", "second copy": "second", "drop": "drop"}
    cells = {head: _digits(row[key]) for head, key in figures.items()}
    return {
        "distance": f"{row['distance']:,}", **cells, "95 % interval": _interval(row, "low", "high"),
        "over documents": _interval(row, "document_low", "document_high"),
    }  # fmt: skip


def _accuracy_cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "length": f"{row['length']:,}", "items": f"{row['size']:,}" if row["size"] else "-", "context": row["context"],
        "accuracy": _digits(row["accuracy"]), "95 % interval": _interval(row, "low", "high"),
        "exact": _digits(row["exact"]), "95 % interval of exact": _interval(row, "exact_low", "exact_high"),
    }  # fmt: skip


def _found_cells(row: Mapping[str, Any]) -> dict[str, str]:
    asked = {"question": row["part"]} if row["depth"] is None else {"depth": f"{row['depth']:.2f}"}
    return {
        **asked, "length": f"{row['length']:,}", "NLL": _digits(row["nll"]),
        "95 % interval": _interval(row, "low", "high"), "found": _digits(row["found"]),
        "95 % interval of found": _interval(row, "found_low", "found_high"),
    }  # fmt: skip


def _interval(row: Mapping[str, Any], low: str, high: str) -> str:
    low_text, high_text = _digits(row.get(low)), _digits(row.get(high))
    return "-" if "-" in (low_text, high_text) else f"{low_text} … {high_text}"


def _digits(value: Any) -> str:
    known = number(value)
    return "-" if known is None else f"{known:.3f}"


def recalls_of(run: Path) -> list[tuple[str, Path, Recall]]:
    """Return model, directory and content of the recall of a run's models, by name. Raises DataError."""
    found = sorted(run.glob(f"recall_*/{RECALL_NAME}"))
    results = [(path.parent, Recall.read(path)) for path in found]
    return [
        (directory.name.removeprefix("recall_").removeprefix(f"{recall.task}_"), directory, recall)
        for directory, recall in results
    ]
