"""Print the table of length-generalization.md from results.json: `python table.py`.

A cell is the geometric mean over the seeds with its 95 % interval by Student's t, of perplexities or of ratios paired by
seed. Models with fewer than three seeds are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tttkit.analyze.trend import geometric_mean

RESULTS = Path(__file__).resolve().parent / "results.json"
MODELS = {
    "sw-sinks": "sw with sinks",
    "transformer": "Transformer",
    "gdn": "Gated DeltaNet",
    "mamba2": "Mamba-2",
    "gdn-hybrid": "Gated DeltaNet and sw, 3 to 1",
    "gdn-parallel": "Gated DeltaNet with a window beside it",
    "gdn-contiguous": "Gated DeltaNet, contiguous in the last fifth",
    "gdn-passed": "Gated DeltaNet, passed in the last fifth",
    "ttt": "ttt-linear",
    "ttt-c8": "ttt-linear, C = 8",
    "ttt-c32": "ttt-linear, C = 32",
    "ttt-paper-c8": "paper's backbone, C = 8",
    "ttt-paper-c16": "paper's backbone, C = 16",
    "ttt-paper-c32": "paper's backbone, C = 32",
    "mlp-paper": "ttt-mlp, paper's backbone",
    "ttt-decay-head": "ttt-linear, decay learned per head",
    "ttt-decay-token": "ttt-linear, decay learned per token",
    "ttt-decay-contiguous": "the same, contiguous in the last fifth",
    "ttt-paper-decay": "paper's backbone, decay learned per token",
    "ttt-paper-decay-contiguous": "the same, contiguous in the last fifth",
    "ttt-paper-contiguous": "paper's backbone, contiguous in the last fifth",
    "ttt-rescale": "ttt-linear, fast weights rescaled",
    "ttt-lr-decay": "ttt-linear, inner rate falls with age",
    "ttt-parallel": "ttt-linear with a window beside it",
    "ttt-hybrid": "ttt-linear and sw, 3 to 1",
    "ttt-contiguous": "ttt-linear, contiguous in the last fifth",
    "ttt-k": "the same, state decayed by 0.9 per window",
    "ttt-passed": "ttt-linear, passed in the last fifth",
    "ttt-fitted": "ttt-linear, fitted in the last fifth",
    "ttt-after-zero": "ttt-linear, 5 % more steps from zero",
    "ttt-after-contiguous": "ttt-linear, 5 % more, contiguous",
    "ttt-after-passed": "ttt-linear, 5 % more, passed",
    "ttt-after-fitted": "ttt-linear, 5 % more, fitted",
}
"""Words of every model, in the order of the table."""
SEEDS = (1, 2, 3)
Row = dict[str, dict[str, float]]


def main() -> None:
    """Print the table."""
    print(table(json.loads(RESULTS.read_text())))


def table(rows: list[dict[str, object]]) -> str:
    """Return the table of models that have all seeds, on sequences of 20 windows, as Markdown."""
    known = {(row["model"], row["seed"]): row for row in rows if row["length_in_windows"] == 20}
    lines = [
        "| model | selection_ppl | 1 x W | 5 x W | 20 x W | `full`/`reset`, 5 x W | 20 x W |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, words in MODELS.items():
        if all((model, seed) in known for seed in SEEDS):
            lines.append(f"| {' | '.join([words, *cells_of(model, known)])} |")
    return "\n".join(lines)


def cells_of(model: str, known: dict[tuple[str, int], dict[str, object]]) -> Iterable[str]:
    """Yield the cells of a model: selection_ppl, `full` relative to sw with sinks, and to its own `reset`."""
    own = {seed: known[model, seed] for seed in SEEDS}

    def ratios(label: str, other: Callable[[int], Row], context: str) -> Iterable[float]:
        return (own[seed]["perplexity"]["full"][label] / other(seed)[context][label] for seed in SEEDS)

    yield cell((own[seed]["selection_ppl"] for seed in SEEDS), 1)
    for label in ("1", "5", "20"):
        yield cell(ratios(label, lambda seed: known["sw-sinks", seed]["perplexity"], "full"))
    for label in ("5", "20"):
        yield cell(ratios(label, lambda seed: own[seed]["perplexity"], "reset"))


def cell(values: Iterable[float], digits: int = 3) -> str:
    """Return the geometric mean with its interval; equal values have none."""
    mean, interval = geometric_mean(values)
    low, high = interval
    return f"{mean:.{digits}f}" if low == high else f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
