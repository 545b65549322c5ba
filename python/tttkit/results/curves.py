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

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        index: int | None = None,
        step: int | None = None,
        model: str | None = None,
    ) -> None:
        """`values` is the content of the file; `index`, `step` and `model` identify the evaluation and its model."""
        self._values = dict(values)
        self.index = index
        self.step = step
        self.model = model

    @classmethod
    def new(
        cls,
        facts: Mapping[str, Any],
        centers: Sequence[int],
        ends: Sequence[int],
        mean_nll: Mapping[str, Sequence[float | None]],
        ratios: Mapping[str, Mapping[str, Sequence[float | None]]],
        *,
        index: int | None = None,
        step: int | None = None,
        model: str | None = None,
    ) -> Curves:
        """Make curves by context, in that order; a context's ratios are keyed by the `part` argument of `ratio`.

        `facts` are the keys that say what was evaluated and how, in the order of the file.
        """
        values: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **facts, "centers": centers, "ends": ends}
        for name, each in mean_nll.items():
            values[_mean_key(name)] = each
            values |= {f"{name}_{part}": ratio for part, ratio in ratios.get(name, {}).items()}
        return cls(values, index=index, step=step, model=model)

    @classmethod
    def read(cls, path: Path, *, index: int | None = None, step: int | None = None, model: str | None = None) -> Curves:
        """Read a chunk_eval.json. Raises DataError unless it has a window and a value or null for every chunk."""
        values = checked_object(files.read_json(path), path)
        ends = values.get("ends")
        if not isinstance(ends, list) or not ends or not isinstance(values.get("training_window"), int):
            raise DataError(f"{path} holds no curves: expected `training_window` and a list `ends`")
        required = [_mean_key(name) for name in ("full", *required_contexts())]
        present = [_mean_key(name) for name in CONTEXTS if _mean_key(name) in values]
        for key in dict.fromkeys([*required, *present]):
            series = values.get(key)
            if not isinstance(series, list) or len(series) != len(ends):
                raise DataError(f"{path}: `{key}` must list a value or null for each of the {len(ends)} chunks")
        return cls(values, index=index, step=step, model=model)

    def with_values(self, **values: Any) -> Curves:
        """Return a copy with these keys set."""
        return Curves({**self._values, **values}, index=self.index, step=self.step, model=self.model)

    def write(self, path: Path) -> None:
        """Replace a chunk_eval.json. Raises DiskFullError, OSError."""
        files.write_json(path, self._values)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys, as in the file."""
        return dict(self._values)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key as it is in the file, for facts without a property here."""
        return self._values.get(key, default)

    @property
    def window(self) -> int:
        """Window W in tokens."""
        return int(self._values["training_window"])

    @property
    def ends(self) -> list[int]:
        """Position after the last position of each chunk."""
        return list(self._values["ends"])

    @property
    def num_sequences(self) -> int | None:
        """Number of sequences in each figure; None if it was not recorded."""
        count = self._values.get("num_sequences")
        return count if isinstance(count, int) else None

    def contexts(self) -> list[str]:
        """Return the contexts with a value for at least one chunk, in the order of tables."""
        return [name for name in CONTEXTS if any(value is not None for value in self.mean_nll(name))]

    def mean_nll(self, context: str) -> list[float | None]:
        """Return the nats per token of each chunk; empty if the context was not evaluated."""
        return [number(value) for value in self._values.get(_mean_key(context)) or ()]

    def ratio(self, context: str, part: str = "ratio") -> list[float | None]:
        """Return the ratio to `full` of each chunk; empty if it is unknown.

        `part` is `ratio`, an end of its 95 % interval (`ratio_low`, `ratio_high`) or of the simultaneous band over all
        chunks (`ratio_band_low`, `ratio_band_high`). One sequence has no interval, although version 0.2.0 wrote one.
        """
        values = [number(value) for value in self._values.get(f"{context}_{part}") or ()]
        return [None] * len(values) if self.num_sequences == 1 and part != "ratio" else values


def _mean_key(context: str) -> str:
    return f"{context}_mean_nll"
