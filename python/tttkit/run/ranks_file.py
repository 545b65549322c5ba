"""`ranks.json`: the state of every rank of a distributed run, as rank 0 last saw it. No torch."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from tttkit.errors import DataError
from tttkit.run import processes
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class RanksFile:
    """The file of one run: rank 0 replaces it every few seconds, `status` reads it."""

    run: RunDirectory

    def write(self, ranks: list[dict[str, Any]], *, lost: str | None, timeout: float) -> None:
        """Replace the file; `lost` says which rank is lost, if one is. Raises OSError."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "world_size": len(ranks),
            "rank_timeout": timeout,
            "lost": lost,
            "boot_id": processes.boot_id(),
            "monotonic": time.monotonic(),
            "ranks": ranks,
        }
        files.write_json(self.run.ranks, values)

    def read(self) -> dict[str, Any] | None:
        """Return the content; None for a run of one process, or if the file is damaged."""
        try:
            values = files.read_json(self.run.ranks) if self.run.ranks.exists() else None
        except DataError:
            return None
        if not isinstance(values, dict) or not isinstance(values.get("ranks"), list):
            return None
        return values if values.get("schema_version") == SCHEMA_VERSION else None
