"""Find where `full` turns better or worse than each windowed context along the positions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from tttkit.analyze.contexts import difference_to_full, where_of
from tttkit.analyze.finding import Finding
from tttkit.analyze.intervals import Intervals, bootstrap
from tttkit.analyze.record import Record, SequenceNll
from tttkit.results.contexts import windowed_contexts


def crossover_position(record: Record) -> Finding:
    """Find where `full` turns better or worse than each windowed context, in the last evaluation."""
    rule = (
        "Simultaneous (max-t) 95 % bands of the ratio cover all chunks beyond W and all contexts. A crossover lies "
        "between the last chunk where one side is significantly better and the next chunk where the other is."
    )
    evaluation = record.evaluations[-1]
    sequences = evaluation.sequences()
    if sequences is None or record.window is None:
        return Finding(
            topic="crossover_position", verdict="unknown", rule=rule, evidence="no NLL by sequence",
            statement="NLL by sequence was not kept, so no simultaneous band can be drawn.",
        )  # fmt: skip
    beyond = sequences.ends > record.window
    ends = sequences.ends[beyond]
    names = _windowed_in(sequences)
    bands = _bands(sequences, names, beyond)
    rows, crossings = [], []
    for index, name in enumerate(names):
        signs = bands.sign(simultaneous=True).reshape(len(names), -1)[index]
        for before, after, direction in sign_changes(signs):
            crossings.append((name, int(ends[before]), int(ends[after]), direction))
        rows.append({
            "context": name, "full_significantly_better_at": _spans(ends[signs > 0]),
            "full_significantly_worse_at": _spans(ends[signs < 0]),
            "chunks_known": int(np.isfinite(bands.observed.reshape(len(names), -1)[index]).sum()),
        })  # fmt: skip
    texts = [
        f"against {name} full turns {'worse' if direction < 0 else 'better'} between positions {low:,} and {high:,}"
        for name, low, high, direction in crossings
    ]
    statement = "; ".join(texts) or "No change of sign along the positions is shown"
    return Finding(
        topic="crossover_position", verdict="found" if crossings else "none", rule=rule, rows=tuple(rows),
        statement=f"{statement[0].upper()}{statement[1:]}.",
        evidence=f"n = {sequences.documents.size} sequences, {int(beyond.sum())} chunks at {where_of(evaluation)}",
    )  # fmt: skip


def sign_changes(signs: Any) -> list[tuple[int, int, int]]:
    """Return (last index of the old sign, first index of the new, new sign) for every change of significant signs."""
    significant = [(index, int(sign)) for index, sign in enumerate(signs) if sign]
    return [(left[0], right[0], right[1]) for left, right in pairwise(significant) if left[1] != right[1]]


def _windowed_in(sequences: SequenceNll) -> list[str]:
    return [name for name in windowed_contexts() if name in sequences.contexts]


def _bands(sequences: SequenceNll, names: list[str], beyond: Any) -> Intervals:
    return bootstrap(np.concatenate([difference_to_full(sequences, name)[:, beyond] for name in names], axis=1))


def _spans(ends: Any) -> str | None:
    """Return positions as text: up to four one by one, more as their count and range."""
    values = [int(end) for end in ends]
    if not values:
        return None
    if len(values) <= 4:
        return ", ".join(f"{value:,}" for value in values)
    return f"{len(values)} chunks in {values[0]:,} … {values[-1]:,}"
