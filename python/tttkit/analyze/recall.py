"""How much more one model remembers than another, paired by example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tttkit.analyze.intervals import bootstrap, over_groups
from tttkit.results.recall import Recall

_SAME_TEXT = ("task", "split", "data_fingerprint", "window", "passage", "longest", "num_examples", "seed")
_SAME_SEED = ("task", "vocab_size", "num_examples", "seed")
"""Facts that say, for tasks about text and for others, whether two models have read the same examples."""


class RecallDifference(NamedTuple):
    """The score of a model minus that of another at one distance or setting, with its 95 % intervals.

    They are over examples, and over documents where those are known and more than one, else None.
    """

    where: str
    mean: float
    low: float
    high: float
    document_low: float | None = None
    document_high: float | None = None


def recall_differences(first: Recall, other: Recall) -> list[RecallDifference]:
    """Return `other` minus `first` for every row that both have; empty if their examples are not the same.

    The scores are the drop of the NLL in nats, the token accuracy, or the NLL in nats and the share found.
    """
    has_text = first.is_second_copy or first.is_about_text
    keys = _SAME_TEXT if has_text else _SAME_SEED
    if any(first.values.get(key) != other.values.get(key) for key in keys):
        return []
    if first.is_second_copy and max(r["distance"] for r in first.rows) != max(r["distance"] for r in other.rows):
        return []  # the longest distance decides which passages are chosen
    names = {"nlls": ", NLL", "found": ", found"} if first.is_about_text else {_score_of(first): ""}
    return [row for name, suffix in names.items() for row in _differences(first, other, name, suffix)]


def _score_of(recall: Recall) -> str:
    return "drops" if recall.is_second_copy else "accuracies"


def _differences(first: Recall, other: Recall, name: str, suffix: str) -> list[RecallDifference]:
    columns = [{_where(row): index for index, row in enumerate(recall.rows)} for recall in (first, other)]
    shared = [where for where in columns[0] if where in columns[1]]
    if not shared:
        return []
    scores = [
        np.array(recall.values[name], dtype=np.float64)[:, [places[where] for where in shared]]
        for recall, places in zip((first, other), columns, strict=True)
    ]
    intervals = bootstrap(scores[1] - scores[0])
    documents = over_groups(scores[1] - scores[0], first.values.get("documents", []))
    bounds = () if documents is None else (documents.low, documents.high)
    figures = zip(intervals.observed, intervals.low, intervals.high, *bounds, strict=True)
    return [RecallDifference(where + suffix, *map(float, each)) for where, each in zip(shared, figures, strict=True)]


def _where(row: Mapping[str, Any]) -> str:
    """Return what a row was measured at, in words."""
    if "distance" in row:
        return f"distance {row['distance']:,}"
    if "part" in row:
        kind = row["part"] if row["depth"] is None else f"depth {row['depth']:.2f}"
        return f"{kind}, length {row['length']:,}"
    items = f", {row['size']:,} items" if row["size"] else ""
    return f"length {row['length']:,}{items}, {row['context']}"
