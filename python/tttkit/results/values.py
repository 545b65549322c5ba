"""The schema version of every result file, and the functions that check and read its values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tttkit.errors import DataError

SCHEMA_VERSION = 1
SEQUENCES_NAME = "chunk_nll.safetensors"
"""File of the mean NLL of each chunk of each sequence, beside summary.json and chunk_eval.json."""


def number(value: Any) -> float | None:
    """Return a finite number; None for null, NaN, infinity and the strings that stand for them in JSON."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def checked_object(values: Any, path: Path) -> dict[str, Any]:
    """Return `values`, read from `path`. Raises DataError if they are not an object or have a newer schema."""
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no results: expected an object, got {type(values).__name__}")
    version = values.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {version}, this tttkit reads up to {SCHEMA_VERSION}",
            hint="use the newer tttkit that wrote it",
        )
    return values
