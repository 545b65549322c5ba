"""Export to Trackio: rows of its local database, each with an id of its own, so that none is stored twice."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from tttkit.errors import UsageError
from tttkit.storage import files
from tttkit.trackers.rows import Recorded, Row, RunFacts

_BATCH = 1000
"""Rows of one transaction."""


class TrackioTracker:
    """Writes into the local database, which `trackio show` displays and `trackio sync` sends to a Space."""

    def __init__(self, directory: Path | None, facts: RunFacts, project: str) -> None:
        """Write into the database in `directory`, or where trackio keeps it. Raises UsageError without trackio."""
        if directory is not None:
            files.make_directory(directory)
            os.environ["TRACKIO_DIR"] = str(directory)  # trackio reads it once, when it is imported
        try:
            from trackio.sqlite_storage import SQLiteStorage
        except ImportError as error:
            raise UsageError("--to trackio needs the package trackio", hint="pip install 'tttkit[trackio]'") from error
        self._storage: Any = SQLiteStorage
        self._facts, self._project = facts, project
        self._written: list[Row] = []

    def write(self, recorded: Recorded) -> None:
        """Add the rows that are not in the database yet, many in a transaction."""
        rows = recorded.final
        new = rows[len(self._written) :] if rows[: len(self._written)] == self._written else rows
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            self._storage.bulk_log(
                project=self._project, run=self._facts.name, run_id=self._facts.run_id, config=self._facts.config,
                metrics_list=[dict(row.values) for row in batch], steps=[row.step for row in batch],
                timestamps=[datetime.datetime.fromtimestamp(row.time, datetime.UTC).isoformat() for row in batch],
                # the database ignores a row whose id it has
                log_ids=[f"{self._facts.run_id}:{row.step}" for row in batch],
            )  # fmt: skip
        self._written = rows

    def close(self) -> None:
        """Every transaction is complete."""
