"""The schema version of every result file, and the functions that check and read its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tttkit.errors import DataError

SCHEMA_VERSION = 1
SEQUENCES_NAME = "chunk_nll.safetensors"
"""File of the mean NLL of each chunk of each sequence, beside summary.json and chunk_eval.json."""


def number(value: Any) -> float | None:
    """Return a finite number; None for null, NaN, infinity and the strings that stand for them in JSON."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


class Results(Protocol):
    """The content of a result file."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Everything that the file holds."""


R = TypeVar("R", bound=Results)


def read_known(read: Callable[[Path], R], path: Path, key_name: str, key: str) -> R | None:
    """Return the results in `path` if their value `key_name` is `key`; None if they differ, are missing or damaged."""
    try:
        results = read(path)
    except DataError:
        return None
    return results if results.values.get(key_name) == key else None


def checked_object(values: Any, path: Path, newest: int = SCHEMA_VERSION) -> dict[str, Any]:
    """Return `values`, read from `path`. Raises DataError if they are not an object or have a schema above `newest`."""
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no object: expected a JSON object, got {type(values).__name__}")
    version = values.get("schema_version", newest)
    if not isinstance(version, int) or version > newest:
        raise DataError(
            f"{path} has schema version {version}, this tttkit reads up to {newest}",
            hint="use the newer tttkit that wrote it",
        )
    return values
