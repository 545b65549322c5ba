"""Evaluate the larger models of runs.sh to 100 x W and write larger.json: `python larger.py RUNS`, where `final` is.

There is one seed, so the intervals are over documents: they say nothing about how another seed would come out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from collect import NUM_SEQUENCES, WINDOW, as_named

from tttkit.config.run import EvaluationConfig
from tttkit.data import open_split
from tttkit.device import prepare_cpu
from tttkit.evaluate import evaluate_model, paired_bootstrap
from tttkit.evaluate.evaluation import Evaluation
from tttkit.models import load_model
from tttkit.results.contexts import labels_within

RESULTS = Path(__file__).resolve().parent / "larger.json"
RUNS = {"sw-sinks": "large-sw-1", "gdn-hybrid": "large-gdn-hybrid-1"}
"""Directory of the run of each model; the first model is the reference."""


def main() -> None:
    """Write the ratios at every label, for sequences of 20 and of 100 windows."""
    prepare_cpu()
    rows = [row for length, count in NUM_SEQUENCES.items() for row in _rows(Path(sys.argv[1]), length, count)]
    RESULTS.write_text("[" + ",\n".join(json.dumps(row) for row in rows) + "]\n")


def _rows(runs: Path, length: int, num_sequences: int) -> list[dict[str, object]]:
    """Return a row per model: perplexity of `full`, and its ratios to `full` of the reference and to `reset`."""
    protocol = EvaluationConfig(
        num_sequences=num_sequences, max_length=length * WINDOW, sw_mode="positions", selection_windows=1
    )
    known = {
        name: evaluate_model(
            as_named(load_model(runs / run / "final_model"), name), open_split("final", "validation"), protocol,
            window=WINDOW,
        )
        for name, run in RUNS.items()
    }  # fmt: skip
    reference = known[next(iter(RUNS))]
    return [
        {
            "model": name, "length_in_windows": length, "sequences": num_sequences,
            "documents": int(np.unique(own.documents).size), "perplexity": _perplexity(own, protocol),
            "relative_to_sw_sinks": _ratios(own, reference, "full", protocol),
            "relative_to_reset": _ratios(own, own, "reset", protocol),
        }
        for name, own in known.items()
    ]  # fmt: skip


def _perplexity(own: Evaluation, protocol: EvaluationConfig) -> dict[str, float]:
    chunks = own.chunks("full")
    labels = labels_within(WINDOW, protocol.max_length)
    return {str(label): round(float(chunks.perplexity[chunks.index_at_multiple(label)]), 3) for label in labels}


def _ratios(own: Evaluation, other: Evaluation, context: str, protocol: EvaluationConfig) -> dict[str, list[float]]:
    """Return [ratio, low, high] of `full` to a context of the other by label, paired, with documents resampled."""
    _, groups = np.unique(own.documents, return_inverse=True)
    pairs = paired_bootstrap(
        other.nll[context], own.nll["full"], protocol.chunk_size, protocol.chunk_stride,
        groups=groups.astype(np.uint32),
    )  # fmt: skip
    columns = {m: own.chunks("full").index_at_multiple(m) for m in labels_within(WINDOW, protocol.max_length)}
    figures = (pairs.ratio, pairs.ratio_low, pairs.ratio_high)
    return {str(label): [round(float(figure[column]), 3) for figure in figures] for label, column in columns.items()}


if __name__ == "__main__":
    main()
