"""Learning-rate effects: how fast the loss falls in each phase of the schedule."""

from __future__ import annotations

from typing import Any

import numpy as np

from tttkit.analyze.finding import Finding
from tttkit.analyze.record import Record
from tttkit.analyze.trend import Floats, fit_slope
from tttkit.results.values import number

NUM_COSINE_PHASES = 3


def learning_rate(record: Record) -> Finding:
    """Find the slope of the training loss in the warm-up and in thirds of the cosine, with intervals."""
    rule = (
        "A line is fitted to the training loss over log tokens in each phase of the schedule. Its slope is in nats per "
        "e-fold of tokens, with intervals that hold for all phases together in 95 % of runs. After the warm-up the "
        "learning rate is a function of the step, so one run cannot separate its effect from the effect of time; "
        "only runs with several learning rates can."
    )
    names = ("tokens_seen", "loss", "lr")
    points = [tuple(number(item.get(name)) for name in names) for item in record.metrics]
    known = [point for point in points if None not in point and point[0]]
    if len(known) < 6:
        return Finding(
            topic="learning_rate", verdict="unknown", rule=rule, evidence=f"{len(known)} logged steps",
            statement="Learning rate and loss were not logged together.",
        )  # fmt: skip
    tokens, loss, learning_rates = (np.array([point[axis] for point in known], dtype=np.float64) for axis in range(3))
    phases = _phases(learning_rates)
    rows = [_row(name, tokens[part], loss[part], learning_rates[part], len(phases)) for name, part in phases]
    significant = [row for row in rows if row["significant"]]
    fastest = min(significant, key=lambda row: row["slope"], default=None)
    statement = "No phase shows a slope of the loss."
    if fastest is not None:
        verb = "falls fastest" if fastest["slope"] < 0 else "rises least"
        statement = (
            f"The loss {verb} in the phase `{fastest['phase']}`: {fastest['slope']:+.3f} nats per e-fold of "
            f"tokens [{fastest['low']:+.3f}, {fastest['high']:+.3f}]."
        )
        last = rows[-1]
        if last is not fastest and last["significant"]:
            mean = last["learning_rate_mean"]
            statement += (
                f" In the last phase, at a mean learning rate of {mean:.1e}, the slope is {last['slope']:+.3f}."
            )
    return Finding(
        topic="learning_rate", verdict=str(fastest["phase"]) if fastest else "undecided", statement=statement,
        rule=rule, evidence=f"{len(known)} logged steps", rows=tuple(rows),
    )  # fmt: skip


def _phases(learning_rates: Floats) -> list[tuple[str, Any]]:
    """Return the indices of each phase: the warm-up to the peak, then thirds of the rest; empty phases are left out."""
    peak = int(np.argmax(learning_rates))
    phases = [("warm-up", np.arange(0, peak + 1))]
    for index, part in enumerate(np.array_split(np.arange(peak, learning_rates.size), NUM_COSINE_PHASES), start=1):
        phases.append((f"cosine {index}/{NUM_COSINE_PHASES}", part))
    return [(name, part) for name, part in phases if part.size]


def _row(name: str, tokens: Floats, loss: Floats, learning_rates: Floats, num_phases: int) -> dict[str, Any]:
    slope = fit_slope(np.log(tokens), loss, num_phases)
    known = bool(np.isfinite(slope.low))
    return {
        "phase": name, "records": int(tokens.size), "learning_rate_mean": float(learning_rates.mean()),
        "slope": slope.value if np.isfinite(slope.value) else None, "low": slope.low if known else None,
        "high": slope.high if known else None, "significant": known and bool(slope.high < 0 or slope.low > 0),
    }  # fmt: skip
