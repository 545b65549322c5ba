"""One result of `doctor`."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Level = Literal["ok", "fixed", "warning", "error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
    """One thing that was examined, and its condition."""

    level: Level
    check: str
    """digests, leftovers, lines, json, numbers, data, disk, clock, or environment."""
    message: str
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return dataclasses.asdict(self)
