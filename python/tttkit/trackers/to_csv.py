"""Export to CSV: `metrics.csv` with a row per logged step, `evaluations.csv` with a row per evaluation."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tttkit.storage import files
from tttkit.trackers.rows import Recorded


class CsvTracker:
    """Writes both files anew at each call, so they always hold exactly what the run has recorded."""

    def __init__(self, directory: Path) -> None:
        """Write into `directory`, which is made if needed. Raises OSError."""
        self._directory = directory
        files.make_directory(directory)

    def write(self, recorded: Recorded) -> None:
        """Replace both files. Raises DiskFullError, OSError."""
        for name, prefix in (("metrics.csv", "train/"), ("evaluations.csv", "eval/")):
            files.write_text(self._directory / name, _table(recorded, prefix))

    def close(self) -> None:
        """Nothing is open."""


def _table(recorded: Recorded, prefix: str) -> str:
    """Return the values whose keys start with `prefix`; columns in the order in which keys first occur."""
    rows = [row for row in recorded.rows if any(key.startswith(prefix) for key in row.values)]
    keys = list(dict.fromkeys(key for row in rows for key in row.values if key.startswith(prefix)))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", *(key.removeprefix(prefix) for key in keys)])
    for row in rows:
        # repr() of a float reads back to the same bits
        table.writerow([row.step, *(repr(row.values[key]) if key in row.values else "" for key in keys)])
    return text.getvalue()
