"""Compare the full context of one run with every context of others, paired by sequence, to judge a training recipe."""

from __future__ import annotations

from typing import Any

from tttkit.analyze.contexts import paired_ratio
from tttkit.analyze.record import SequenceNll
from tttkit.analyze.winner import (
    NO_DIFFERENCE,
    SIMULTANEOUS_WIDTH,
    UNKNOWN,
    PairedRatio,
    best_ahead,
    competitors,
    reference_wins,
)
from tttkit.results.contexts import CONTEXTS, LABELS, required_contexts

Pairs = dict[tuple[str, str], dict[int, PairedRatio]]
"""By (run, context) and label m: the ratio to the first run's full context; above 1 the first run is better."""
RULE = (
    "the full context of the first run is better if it is significantly below every context of the other run, and "
    "worse if any of them is significantly below it, by an interval widened by the factor "
    f"{SIMULTANEOUS_WIDTH}; otherwise no difference was found. This is how a recipe that changes training is judged: "
    "against the best context of the fresh-state model at equal tokens, never against its own sw alone."
)


def pair(runs: dict[str, SequenceNll | None], window: int) -> Pairs:
    """Compare every context of every run with the full context of the first; runs on other sequences are left out."""
    name, first = next(iter(runs.items()))
    if first is None:
        return {}
    return {
        (run, context): _at_labels(first, sequences, context, window)
        for run, sequences in runs.items()
        if sequences is not None and sequences.same_text(first)
        for context in sequences.contexts
        if (run, context) != (name, "full")
    }


def ratio_rows(pairs: Pairs) -> list[dict[str, Any]]:
    """Return a row per run and context: ratios with intervals, and `>` or `<` if they differ significantly from 1."""
    labels = _labels(pairs)
    return [
        {"run": run, "context": context, **{f"{m}xW": _cell(ratios.get(m)) for m in labels}}
        for (run, context), ratios in pairs.items()
    ]


def verdict_rows(pairs: Pairs, first: str) -> list[dict[str, Any]]:
    """Return a row per further run that says whose context is better at each label, by `RULE`."""
    labels = _labels(pairs)
    others = dict.fromkeys(run for run, _ in pairs if run != first)
    return [
        {f"full of {first} against": run, **{f"{m}xW": _verdict(pairs, first, run, m) for m in labels}}
        for run in others
    ]


def _labels(pairs: Pairs) -> list[int]:
    return sorted({multiple for ratios in pairs.values() for multiple in ratios})


def _at_labels(first: SequenceNll, other: SequenceNll, context: str, window: int) -> dict[int, PairedRatio]:
    ratios = {}
    for multiple in LABELS:
        column = first.column(window, multiple)
        if column is None:
            continue
        differences = other.contexts[context][:, column] - first.contexts["full"][:, column]
        ratio = paired_ratio(context, differences, first.documents)
        if ratio is not None:
            ratios[multiple] = ratio
    return ratios


def _cell(ratio: PairedRatio | None) -> str | None:
    return None if ratio is None else ratio.text() + {1: " >", -1: " <"}.get(ratio.sign, "")


def _verdict(pairs: Pairs, first: str, run: str, multiple: int) -> str:
    """Say whose context is better at one label. All `competitors` of the other run compete, including the full one."""
    known = (pairs.get((run, context), {}).get(multiple) for context in CONTEXTS)
    ratios = competitors(each for each in known if each is not None)
    if not all(each.has_enough_sequences for each in ratios):
        return f"{UNKNOWN}: too few sequences"
    best = best_ahead(ratios)
    if best is not None:
        return f"{best.context} of {run} better"
    if reference_wins(ratios, ("full", *required_contexts())):
        return f"full of {first} better"
    return NO_DIFFERENCE
