"""When does it converge? Plateau of the validation curve, trend of the loss, effect of early-stopping rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from tttkit.analyze.finding import Finding
from tttkit.analyze.record import Record
from tttkit.analyze.trend import Floats, Slope, fit_slope
from tttkit.results.summary import mean_key
from tttkit.results.values import number

PLATEAU_PERCENT = 1.0
"""A curve is flat if it improves by less than this per 10 % of the run."""
WINDOW_PERCENT = 30
"""Share of the run over which a slope is fitted."""
STOPPING_RULES: tuple[tuple[str, float, bool, float, int], ...] = (
    ("0.5 % relative, patience 10, not before 20 % (ours)", 0.005, True, 0.2, 10),
    ("1 % relative, patience 5, not before 20 %", 0.01, True, 0.2, 5),
    ("0.01 absolute, patience 10 (the earlier system's code)", 0.01, False, 0.0, 10),
    ("50 absolute, patience 10 (the earlier system's documents)", 50.0, False, 0.0, 10),
)
"""(name, smallest improvement, whether it is relative, share of the run before which it never stops, patience)."""


def convergence(record: Record) -> Finding:
    """Find the plateau of the validation curve and its trend at the end."""
    key = record.criterion()
    x, values = record.series(key)
    rule = (
        f"{key} against {record.axis}: a line is fitted to its logarithm over every {WINDOW_PERCENT} % of the run. The "
        f"plateau begins at the first point from which every line improves by less than {PLATEAU_PERCENT:g} % per 10 % "
        f"of the run; it is named only if the 95 % interval of the last line excludes {PLATEAU_PERCENT:g} %."
    )
    evidence = f"{x.size} evaluations after step 0"
    if x.size < 3:
        return _unknown("convergence", "There are too few evaluations to show a plateau.", rule, evidence)
    last = improvement(fit_slope(*_tail(x, np.log(values))), x[-1])
    start = plateau_start(x, values)
    flat, falling, rising = (last[2] < PLATEAU_PERCENT, last[1] > 0, last[2] < 0)
    around = f"over the last {WINDOW_PERCENT} % it improved by {last[0]:.2f} % per 10 % [{last[1]:.2f}, {last[2]:.2f}]"
    if not np.isfinite(last[1]):
        verdict, sentence = (
            "unknown",
            f"There are too few evaluations in the last {WINDOW_PERCENT} % of the run for an interval.",
        )
    elif rising:
        verdict, sentence = "rising", f"The curve gets worse at the end: {around}."
    elif flat and start is not None:
        verdict, sentence = "plateau", f"The curve has a plateau from {_at(record, x[start])} on: {around}."
    elif falling:
        verdict, sentence = "falling", f"There is no plateau: {around}."
    else:
        verdict, sentence = "undecided", f"Neither a plateau nor an improvement is shown: {around}."
    best = int(np.argmin(values))
    row = {
        "figure": key, "last": float(values[-1]), "best": float(values[best]), "best_at": float(x[best]),
        "plateau_at": float(x[start]) if verdict == "plateau" and start is not None else None,
        "improvement_percent": number(last[0]), "improvement_low": number(last[1]), "improvement_high": number(last[2]),
    }  # fmt: skip
    return Finding(topic="convergence", verdict=verdict, statement=sentence, rule=rule, evidence=evidence, rows=(row,))


def training_loss(record: Record) -> Finding:
    """Say whether the training loss still falls at the end, and list alarms that a sound run never raises."""
    pairs = [(number(item.get("tokens_seen")), number(item.get("loss"))) for item in record.metrics]
    source = "logged losses"
    if not record.metrics:
        pairs = [(record.position(item), item.summary.value("training_loss")) for item in record.evaluations]
        source = "losses between evaluations"
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    x, y = (np.array([pair[axis] for pair in known], dtype=np.float64) for axis in (0, 1))
    rule = (
        f"A line is fitted to the training loss over the last {WINDOW_PERCENT} % of the run; the loss falls or rises "
        f"if the 95 % interval of the slope excludes 0. A loss below 1 raises an alarm."
    )
    evidence = f"{x.size} {source}"
    if x.size < 3:
        return _unknown("training_loss", "The training loss was not logged.", rule, evidence)
    slope = fit_slope(*_tail(x, y))
    each = tuple(float(value * x[-1] / 10) for value in (slope.value, slope.low, slope.high))
    verdict = "falling" if slope.high < 0 else "rising" if slope.low > 0 else "undecided"
    if not np.isfinite(slope.low):
        verdict = "unknown"
    words = {
        "falling": "still falls",
        "rising": "rises",
        "undecided": "shows no trend",
        "unknown": "has no known trend",
    }
    alarms = int((y < 1).sum())
    statement = f"The training loss {words[verdict]} at the end"
    if verdict == "unknown":
        statement += f": there are too few losses in the last {WINDOW_PERCENT} % of the run."
    else:
        statement += f": {each[0]:+.4f} nats per 10 % of the run [{each[1]:+.4f}, {each[2]:+.4f}]."
    if alarms:
        statement += f" ALARM: {alarms} of {y.size} losses are below 1, which never happens in a sound run."
    row = {
        "last": float(y[-1]), "change_per_10_percent": number(each[0]), "low": number(each[1]), "high": number(each[2]),
        "below_1": alarms, "exactly_0": int((y == 0).sum()),
    }  # fmt: skip
    return Finding(
        topic="training_loss", verdict=verdict, statement=statement, rule=rule, evidence=evidence, rows=(row,)
    )


def early_stopping(record: Record) -> Finding:
    """Replay several early-stopping rules on the curve, with the perplexity that each would have cost."""
    key = record.criterion()
    keys = list(dict.fromkeys([key, mean_key("full")]))
    rule = (
        "Each rule is replayed on the recorded figures; its cost is the best figure before the stop relative to the "
        "best one after it."
    )
    rows = []
    for name in keys:
        x, values = record.series(name)
        if x.size < 2:
            continue
        for label, delta, relative, least, patience in STOPPING_RULES:
            stop = stop_index(values, x / x[-1], delta=delta, relative=relative, least=least, patience=patience)
            rows.append(_stop_row(name, label, x, values, stop))
    if not rows:
        return _unknown("early_stopping", "There are too few evaluations to replay a rule.", rule, "0 rules")
    recorded = record.metadata.get("result", {}).get("reason")
    stopped = [row for row in rows if row["stops_at"] is not None]
    ends = {"early-stopped": "The run stopped early by its own rule.", "finished": "The run used all its steps."}
    end = ends.get(str(recorded), "It is not recorded whether the run stopped early by itself.")
    statement = f"{end} {len(stopped)} of {len(rows)} replayed rules would have stopped before the end"
    worst = max((row["lost_percent"] or 0.0 for row in stopped), default=0.0)
    statement += f", the worst at the cost of {worst:.1f} % of perplexity." if stopped else "."
    verdict = {"early-stopped": "stopped early", "finished": "not stopped"}.get(str(recorded), "unknown")
    return Finding(
        topic="early_stopping", verdict=verdict, statement=statement, rule=rule,
        evidence=f"{len(record.evaluations)} evaluations", rows=tuple(rows),
    )  # fmt: skip


def stop_index(
    values: Floats, share: Floats, *, delta: float, relative: bool, least: float, patience: int
) -> int | None:
    """Return the index where a rule stops: `patience` values in a row improved by less than `delta`; else None."""
    reference, waiting = np.inf, 0
    for index, value in enumerate(values):
        needed = reference * (1 - delta) if relative else reference - delta
        if not np.isfinite(reference) or (value < reference and value <= needed):
            reference, waiting = value, 0
        else:
            waiting += 1
        if waiting >= patience and share[index] >= least:
            return index
    return None


def plateau_start(x: Floats, values: Floats) -> int | None:
    """Return the first index from which every fitted line improves by less than PLATEAU_PERCENT; None without one."""
    logs, width = np.log(values), WINDOW_PERCENT / 100 * x[-1]
    start = None
    for index in range(x.size - 1, -1, -1):
        inside = (x >= x[index]) & (x <= x[index] + width)
        if inside.sum() < 3 or x[index] > x[-1] - 0.5 * width:
            continue
        if improvement(fit_slope(x[inside], logs[inside]), x[-1])[0] >= PLATEAU_PERCENT:
            break
        start = index
    return start


def improvement(slope: Slope, total: float) -> tuple[float, float, float]:
    """Return (value, low, high) of a slope in percent of perplexity per 10 % of the run; positive is better."""
    value, high, low = (100 * -np.expm1(each * total / 10) for each in (slope.value, slope.low, slope.high))
    return float(value), float(low), float(high)


def _stop_row(name: str, label: str, x: Floats, values: Floats, stop: int | None) -> dict[str, Any]:
    before = float(values[: None if stop is None else stop + 1].min())
    after = None if stop is None or stop + 1 == values.size else float(values[stop + 1 :].min())
    lost = None if after is None else max(0.0, 100 * (before / after - 1))
    at = None if stop is None or stop + 1 == values.size else float(x[stop])
    return {"figure": name, "rule": label, "stops_at": at, "best_before": before, "lost_percent": lost}


def _tail(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    inside = x >= (1 - WINDOW_PERCENT / 100) * x[-1]
    return x[inside], y[inside]


def _at(record: Record, position: float) -> str:
    return f"{position:,.0f} tokens" if record.axis == "tokens" else f"step {position:,.0f}"


def _unknown(topic: str, statement: str, rule: str, evidence: str) -> Finding:
    return Finding(topic=topic, verdict="unknown", statement=statement, rule=rule, evidence=evidence)
