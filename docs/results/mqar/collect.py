"""Add the accuracies in recall.json files to results.json: `python collect.py FILE…`.

A file names its model as runs/NAME-SEED/final_model, which is how runs.sh calls it. Rows that results.json has already
are replaced.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results.json"


def main() -> None:
    """Read the files and write results.json with one row per line."""
    rows = {_key(row): row for row in json.loads(RESULTS.read_text())}
    for path in sys.argv[1:]:
        rows |= {_key(row): row for row in rows_of(json.loads(Path(path).read_text()))}
    lines = ",\n".join(json.dumps(rows[key]) for key in sorted(rows))
    RESULTS.write_text(f"[{lines}]\n")


def rows_of(recall: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per length and number of pairs, with the full context."""
    name, _, seed = Path(recall["path"]).parent.name.rpartition("-")
    return [
        {
            "model": name, "seed": int(seed), "length": row["length"], "pairs": row["size"],
            "accuracy": round(row["accuracy"], 4), "interval": [round(row["low"], 4), round(row["high"], 4)],
            "exact": round(row["exact"], 4),
        }
        for row in recall["rows"] if row["context"] == "full"
    ]  # fmt: skip


def _key(row: dict[str, Any]) -> tuple[str, int, int, int]:
    return row["model"], row["seed"], row["length"], row["pairs"]


if __name__ == "__main__":
    main()
