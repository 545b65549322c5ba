"""`Curves`: one evaluation by position, the only reader and writer of `chunk_eval.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttkit.errors import DataError
from tttkit.results.contexts import CONTEXTS, required_contexts
from tttkit.results.values import SCHEMA_VERSION, checked_object, number
from tttkit.storage import files

CURVES_NAME = "chunk_eval.json"


class Curves:
    """One evaluation by position: `chunk_eval.json`. Lists have an entry per chunk, None where it was not computed."""

    def __init__(self, values: Mapping[str, Any], *, index: int | None = None, step: int | None = None) -> None:
        """`values` are the keys of the file; `index` and `step` say which evaluation of a run it is."""
        self._values = dict(values)
        self.index = index
        self.step = step

    @classmethod
    def new(
        cls,
        facts: Mapping[str, Any],
        centers: Sequence[int],
        ends: Sequence[int],
        mean_nll: Mapping[str, Sequence[float | None]],
        ratios: Mapping[str, Mapping[str, Sequence[float | None]]],
    ) -> Curves:
        """Curves by context, in that order; the keys of a ratio are those of `ratio`."""
        values: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **facts, "centers": centers, "ends": ends}
        for name, each in mean_nll.items():
            values[f"{name}_mean_nll"] = each
            values |= {f"{name}_{part}": found for part, found in ratios.get(name, {}).items()}
        return cls(values)

    @classmethod
    def read(cls, path: Path, *, index: int | None = None, step: int | None = None) -> Curves:
        """Read a chunk_eval.json. Raises DataError unless it has a window and a value or null for every chunk."""
        values = checked_object(files.read_json(path), path)
        ends = values.get("ends")
        if not isinstance(ends, list) or not ends or not isinstance(values.get("training_window"), int):
            raise DataError(f"{path} holds no curves: expected `training_window` and a list `ends`")
        needed = [f"{name}_mean_nll" for name in ("full", *required_contexts())]
        given = [f"{name}_mean_nll" for name in CONTEXTS if f"{name}_mean_nll" in values]
        for name in dict.fromkeys([*needed, *given]):
            found = values.get(name)
            if not isinstance(found, list) or len(found) != len(ends):
                raise DataError(f"{path}: `{name}` must list a value or null for each of the {len(ends)} chunks")
        return cls(values, index=index, step=step)

    def write(self, path: Path) -> None:
        """Replace a chunk_eval.json. Raises DiskFullError, OSError."""
        files.write_json(path, self._values)

    def to_dict(self) -> dict[str, Any]:
        """The keys, as in the file."""
        return dict(self._values)

    def get(self, key: str, default: Any = None) -> Any:
        """A key as it is in the file: for facts that have no property here."""
        return self._values.get(key, default)

    @property
    def window(self) -> int:
        """Window W in tokens."""
        return int(self._values["training_window"])

    @property
    def ends(self) -> list[int]:
        """Position after the last of each chunk."""
        return list(self._values["ends"])

    @property
    def num_sequences(self) -> int | None:
        """Sequences that each figure rests on; None where that was not recorded."""
        count = self._values.get("num_sequences")
        return count if isinstance(count, int) else None

    @property
    def model(self) -> str | None:
        """Name of the model, where it was recorded."""
        return self._values.get("model")

    def contexts(self) -> list[str]:
        """Contexts with a value for at least one chunk, in the order of tables."""
        return [name for name in CONTEXTS if any(value is not None for value in self.mean_nll(name))]

    def mean_nll(self, context: str) -> list[float | None]:
        """Nats per token of each chunk; empty where the context was not evaluated."""
        return [number(value) for value in self._values.get(f"{context}_mean_nll") or ()]

    def ratio(self, context: str, part: str = "ratio") -> list[float | None]:
        """Ratio to `full`, or its `ratio_low`, `ratio_high`, `ratio_band_low`, `ratio_band_high`; empty: unknown."""
        return [number(value) for value in self._values.get(f"{context}_{part}") or ()]
