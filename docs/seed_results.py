"""Read the results in results/seeds, for the tables and the figure of length-generalization.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tttkit.analyze.trend import geometric_mean

RESULTS = Path(__file__).resolve().parent / "results" / "seeds" / "results.json"
SEEDS = (1, 2, 3)
Rows = dict[int, dict[str, dict[str, float]]]
"""Perplexity by seed, context and label."""


def perplexities(length: int) -> dict[str, Rows]:
    """Return the perplexities on sequences of `length` windows, of the models that have all seeds.

    A model that was read in the context `dynamic` is a second model, MODEL-dynamic, whose `full` is `dynamic`.
    """
    known: dict[str, Rows] = {}
    for row in json.loads(RESULTS.read_text()):
        if row["length_in_windows"] != length:
            continue
        perplexity = row["perplexity"]
        known.setdefault(row["model"], {})[row["seed"]] = perplexity
        if "dynamic" in perplexity:
            in_dynamic = {**perplexity, "full": perplexity["dynamic"]}
            known.setdefault(f"{row['model']}-dynamic", {})[row["seed"]] = in_dynamic
    return {model: by_seed for model, by_seed in known.items() if set(SEEDS) <= set(by_seed)}


def selection_perplexities() -> dict[str, list[float]]:
    """Return the selection_ppl of all seeds of each model. It is the same in every context."""
    known: dict[str, dict[int, float]] = {}
    for row in json.loads(RESULTS.read_text()):
        for model in (row["model"], f"{row['model']}-dynamic"):
            known.setdefault(model, {})[row["seed"]] = row["selection_ppl"]
    return {model: list(by_seed.values()) for model, by_seed in known.items()}


def ratio(own: Rows, label: str, other: Rows, contexts: Sequence[str]) -> tuple[float, tuple[float, float]]:
    """Return `full` at a label relative to the best of the other model's contexts, paired by seed."""
    best = {seed: min(other[seed][context][label] for context in contexts) for seed in SEEDS}
    return over_seeds(own[seed]["full"][label] / best[seed] for seed in SEEDS)


def over_seeds(values: Iterable[float]) -> tuple[float, tuple[float, float]]:
    """Return the geometric mean of the values of all seeds with its 95 % interval by Student's t."""
    mean, interval = geometric_mean(values)
    assert mean is not None
    assert interval is not None
    return mean, interval
