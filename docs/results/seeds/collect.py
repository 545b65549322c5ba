"""Evaluate the finished runs here and add their perplexities to results.json: `python collect.py RUN…`.

`final`, made by data.sh, holds the text. A model whose results are in results.json already is left out, so the command
can be repeated while runs.sh goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tttkit.results.contexts import CONTEXTS
from tttkit.results.summary import Summary

RESULTS = Path(__file__).resolve().parent / "results.json"
LABELS = (1, 2, 5, 10, 20)
NUM_SEQUENCES = 64


def main() -> None:
    """Add a row for each run that has a final model."""
    rows = json.loads(RESULTS.read_text())
    known = {(row["model"], row["seed"], row["length_in_windows"]) for row in rows}
    for path in map(Path, sys.argv[1:]):
        name, _, seed = path.name.rpartition("-")
        if (name, int(seed), LABELS[-1]) in known or not (path / "final_model").exists():
            continue
        rows.append(row_of(path, name, int(seed)))
        lines = ",\n".join(json.dumps(row) for row in sorted(rows, key=lambda row: (row["model"], row["seed"])))
        RESULTS.write_text(f"[{lines}]\n")


def row_of(path: Path, name: str, seed: int) -> dict[str, object]:
    """Evaluate the final model of a run."""
    command = ["tttkit", "eval", "checkpoint", str(path / "final_model"), "--data", "final", "--sw-mode", "positions"]
    subprocess.run([*command, "--num-sequences", str(NUM_SEQUENCES)], check=True)
    evaluated = Summary.read(path / "eval_final_model" / "summary.json")
    (trained,) = Summary.read_all(path / "all_summaries.json")[-1:]
    perplexity = {
        context: {str(label): round(value, 3) for label in LABELS if (value := evaluated.perplexity(context, label))}
        for context in CONTEXTS
    }
    return {
        "model": name, "seed": seed, "length_in_windows": LABELS[-1], "sequences": NUM_SEQUENCES,
        "documents": evaluated.num_documents, "selection_ppl": round(float(trained.selection_ppl), 3),
        "perplexity": {context: values for context, values in perplexity.items() if values},
    }  # fmt: skip


if __name__ == "__main__":
    main()
