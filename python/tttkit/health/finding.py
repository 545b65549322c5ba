"""What `doctor` found: one thing that was looked at."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Level = Literal["ok", "mended", "warning", "error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    check: str
    """digests, leftovers, lines, json, numbers, data, disk, clock or environment."""
    message: str
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)
