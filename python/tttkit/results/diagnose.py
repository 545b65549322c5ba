"""The schema of diagnose.json: why a model holds up past its window or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.results.contexts import labels_within
from tttkit.results.values import checked_object, number
from tttkit.storage import files

DIAGNOSE_NAME = "diagnose.json"
FIGURE_NAME = "diagnose.png"
SCHEMA_VERSION = 1
COLUMNS = (
    "position", "state norm", "distance", "unexplored", "inner loss before", "after", "effective memory",
    "ppl", "ppl of key tokens", "key tokens",
)  # fmt: skip
"""Keys of the rows of `table_rows`."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The content of diagnose.json. A part that was not measured is None, and `left_out` says why."""

    values: Mapping[str, Any]

    @staticmethod
    def read(path: Path) -> Diagnosis:
        """Read diagnose.json. Raises DataError if it is missing, damaged or of a newer schema."""
        return Diagnosis(checked_object(files.read_json(path), path, newest=SCHEMA_VERSION))

    def write(self, path: Path) -> None:
        """Write diagnose.json."""
        files.write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of diagnose.json."""
        return {"schema_version": SCHEMA_VERSION, **self.values}

    @property
    def window(self) -> int:
        """The window W in tokens."""
        return int(self.values["window"])

    @property
    def max_length(self) -> int:
        """The length T of the texts in tokens."""
        return int(self.values["max_length"])

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why a part was not measured, by the name of the part."""
        reasons: Mapping[str, str] = self.values.get("left_out", {})
        return reasons

    @property
    def state(self) -> Mapping[str, Any] | None:
        """`positions`, `layers`, and per layer and position `norm`, `distance`, `unexplored`, `before`, `after`."""
        return self.values.get("state")

    @property
    def memory(self) -> list[Mapping[str, Any]]:
        """Per label: `position`, `tokens`, `variation` with `low` and `high`, and the effective memory."""
        return self.values.get("memory") or []

    @property
    def perplexity(self) -> list[Mapping[str, Any]]:
        """Per band of positions that ends at a label: perplexity of all tokens and of key tokens."""
        return self.values.get("perplexity") or []

    def table_rows(self) -> list[dict[str, str]]:
        """Return the figures at each label m x W as texts, a row per label with the keys `COLUMNS`."""
        return [self._row(label) for label in labels_within(self.window, self.max_length)]

    def _row(self, label: int) -> dict[str, str]:
        memory = next((item for item in self.memory if item.get("label") == label), {})
        band = next((item for item in self.perplexity if item.get("label") == label), {})
        effective = "-"
        if memory:
            low, high = memory.get("effective_low"), memory.get("effective_high")
            interval = "" if low is None else f" [{low:,}, {high:,}]"
            effective = f"{memory['effective']:,}{interval}"
        cells = (
            f"{label} x W", self._at(label, "norm", 1), self._at(label, "distance", 2),
            self._at(label, "unexplored", 0, percent=True), self._at(label, "before", 4), self._at(label, "after", 4),
            effective, _interval(band, "ppl"), _interval(band, "key_ppl"), _count(band, "key_tokens"),
        )  # fmt: skip
        return dict(zip(COLUMNS, cells, strict=True))

    def _at(self, label: int, name: str, digits: int, *, percent: bool = False) -> str:
        """Return a figure of the state at a label, the mean over layers, as text."""
        state = self.state or {}
        column = state.get("positions", []).index(label * self.window) if self._has(label, name) else None
        if column is None:
            return "-"
        values = [number(layer[column]) for layer in state[name]]
        known = [value for value in values if value is not None]
        if not known:
            return "-"
        mean = sum(known) / len(known)
        return f"{100 * mean:.{digits}f} %" if percent else f"{mean:,.{digits}f}"

    def _has(self, label: int, name: str) -> bool:
        state = self.state or {}
        return bool(state.get(name)) and label * self.window in state.get("positions", [])


def _interval(band: Mapping[str, Any], name: str) -> str:
    """Return a perplexity with its interval as text."""
    value, low, high = (number(band.get(key)) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "-"
    return f"{value:,.2f}" if low is None or high is None else f"{value:,.2f} [{low:,.2f}, {high:,.2f}]"


def _count(band: Mapping[str, Any], name: str) -> str:
    count = band.get(name)
    return "-" if count is None else f"{count:,}"


def diagnoses_of(run: Path) -> list[tuple[str, Path, Diagnosis]]:
    """Return name, directory and content of the diagnoses of a run's models, by name. Raises DataError."""
    found = sorted(run.glob(f"diagnose_*/{DIAGNOSE_NAME}"))
    return [(path.parent.name.removeprefix("diagnose_"), path.parent, Diagnosis.read(path)) for path in found]
