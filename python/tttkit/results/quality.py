"""The schema of quality.json: what a model writes after prompts of several lengths, and how that compares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttkit.results.values import checked_object, number
from tttkit.storage import files

QUALITY_NAME = "quality.json"
PAGE_NAME = "quality.html"
SCHEMA_VERSION = 1
METRICS = {
    "rep_2": "rep-2", "rep_3": "rep-3", "rep_4": "rep-4", "distinct_1": "distinct-1", "distinct_2": "distinct-2",
    "distinct_3": "distinct-3", "loops": "loops", "judge_nll": "ppl by judge",
}  # fmt: skip
"""Figures of a cell and their heads in tables. `judge_nll` is in nats and shown as perplexity."""
METHODS = ("greedy", "nucleus")
TEXT = "text"
"""The method of the cell that holds the real text in place of a continuation."""
COLUMNS = ("prompt", "method", *METRICS.values(), "MAUVE")


@dataclasses.dataclass(frozen=True)
class Quality:
    """The content of quality.json. `cells` has an entry per length of the prompt and method, and one for real text."""

    values: Mapping[str, Any]

    @staticmethod
    def read(path: Path) -> Quality:
        """Read quality.json. Raises DataError if it is missing, damaged or of a newer schema."""
        return Quality(checked_object(files.read_json(path), path, newest=SCHEMA_VERSION))

    def write(self, path: Path) -> None:
        """Write quality.json."""
        files.write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of quality.json."""
        return {"schema_version": SCHEMA_VERSION, **self.values}

    @property
    def cells(self) -> Sequence[Mapping[str, Any]]:
        """Per length and method: `length`, `method`, `figures` with intervals, `per_prompt`, `mauve`."""
        cells: Sequence[Mapping[str, Any]] = self.values.get("cells", [])
        return cells

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why a part was not measured, by the name of the part."""
        reasons: Mapping[str, str] = self.values.get("left_out", {})
        return reasons

    def table_rows(self) -> list[dict[str, str]]:
        """Return a row of texts per cell, with those of the keys `COLUMNS` that any cell has a figure for."""
        rows = [self._row(cell) for cell in self.cells]
        known = [column for column in COLUMNS if any(row[column] != "-" for row in rows)]
        return [{column: row[column] for column in known} for row in rows]

    def prompt_of(self, cell: Mapping[str, Any]) -> str:
        """Return the length of the prompts of a cell as text, in tokens and windows."""
        window = self.values.get("window") or 1
        return "-" if cell["method"] == TEXT else f"{cell['length'] / window:g} x W"

    def has_prompts_of(self, other: Quality) -> bool:
        """Return whether another model continued the same prompts by as many tokens."""
        same = ("data_fingerprint", "split", "ends", "lengths", "max_tokens", "seed")
        return all(self.values.get(name) == other.values.get(name) for name in same)

    def _row(self, cell: Mapping[str, Any]) -> dict[str, str]:
        figures = [shown(name, cell["figures"].get(name)) for name in METRICS]
        mauve = number(cell.get("mauve"))
        cells = (self.prompt_of(cell), cell["method"], *figures, "-" if mauve is None else f"{mauve:.3f}")
        return dict(zip(COLUMNS, cells, strict=True))


def shown(name: str, figure: Mapping[str, Any] | None, *, ratio: bool = False) -> str:
    """Return a figure with its interval as text; NLL as perplexity, a difference of NLL as a ratio of perplexities."""
    values = [number((figure or {}).get(key)) for key in ("value", "low", "high")]
    if values[0] is None:
        return "-"
    is_nll = name == "judge_nll"
    known = [math.exp(min(value, 700)) if is_nll else value for value in values if value is not None]
    digits = 1 if is_nll and not ratio else 3 if is_nll else 2
    # adding 0 turns -0.0 into 0.0
    texts = [f"{round(value, digits) + 0.0:,.{digits}f}" for value in known]
    return texts[0] if len(texts) < 3 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def metrics_of(differences: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the entries of `METRICS` that any of the differences has."""
    return {name: head for name, head in METRICS.items() if any(name in row["differences"] for row in differences)}


def qualities_of(run: Path) -> list[tuple[str, Quality]]:
    """Return name and content of the results of a run's models, by name. Raises DataError."""
    found = sorted(run.glob(f"quality_*/{QUALITY_NAME}"))
    return [(path.parent.name.removeprefix("quality_"), Quality.read(path)) for path in found]
