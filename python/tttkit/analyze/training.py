"""How the comparison changes while training: crossover step, generalisation gap."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tttkit.analyze.contest import WINDOWED
from tttkit.analyze.contexts import sign_changes
from tttkit.analyze.finding import Finding
from tttkit.analyze.intervals import bootstrap
from tttkit.analyze.record import Record, SequenceNll
from tttkit.analyze.trend import Floats, autocorrelation, fit_slope, t_quantile

NUM_BLOCKS = 20
"""Blocks that a curve without intervals is cut into."""
LEAST_OF_A_BLOCK = 5
"""Checkpoints of a block, on average, from which its scatter tells something."""
Signs = tuple[Any, list[int]]
"""+1, -1 or 0 along training, and the step of each."""
_NONE_SHOWN = "no difference shown"


def crossover_step(record: Record) -> Finding:
    """From which step on `full` is better or worse than a windowed context, and whether it stays so."""
    rule = (
        "Simultaneous (max-t) 95 % bands over all checkpoints, labels and contexts. Persistent: one change and the new "
        "sign never surely contradicted; excursion: it changes back."
    )
    loaded = [(item.step or 0, item.sequences()) for item in record.checkpoints]
    kept = [(step, found) for step, found in loaded if found is not None]
    if record.window is None or len(kept) < 2 or len(kept) < len(loaded):
        return _from_scatter(record)
    first = kept[0][1]
    if not all(found.same_text(first) for _, found in kept):
        return _unknown("crossover_step", "The checkpoints were evaluated on different sequences.", rule)
    steps = [step for step, _ in kept]
    curves = _differences([found for _, found in kept], record.window, record.multiples())
    if not curves:
        return _unknown("crossover_step", "No position beyond W was measured.", rule)
    signs = bootstrap(np.concatenate(list(curves.values()), axis=1)).sign(simultaneous=True)
    by_curve = {key: (row, steps) for key, row in zip(curves, signs.reshape(len(curves), len(steps)), strict=True)}
    evidence = f"n = {first.documents.size} sequences, the same at {len(steps)} checkpoints"
    return _conclude(by_curve, rule, evidence)


def generalisation_gap(record: Record) -> Finding:
    """PPL@m x W / PPL@1 x W of the full context: its last value with interval, and whether training widens it."""
    rule = (
        "Ratio of perplexities at m x W and 1 x W over the same sequences, 95 % paired bootstrap; trend: a line "
        "through its logarithm over the second half of training, named where its interval excludes 0; these intervals "
        "hold for all positions together in 95 % of runs."
    )
    sequences = record.checkpoints[-1].sequences()
    curves = {}
    for multiple in record.multiples():
        points = [
            (record.position(item), np.log(far / near))
            for item in record.checkpoints
            if item.step != 0 and (far := item.perplexity("full", multiple)) and (near := item.perplexity("full", 1))
        ]
        if multiple > 1 and points:
            curves[multiple] = points
    rows = [
        _gap_row(multiple, points, _gap_interval(record, sequences, multiple), len(curves))
        for multiple, points in curves.items()
    ]
    if not rows:
        return _unknown("generalisation_gap", "No figure beyond 1 x W was kept.", rule)
    last = rows[-1]
    interval = "(no interval)" if last["low"] is None else f"[{last['low']:.3f}, {last['high']:.3f}]"
    statement = (
        f"PPL at {last['position']} is {last['ratio']:.3f} {interval} of that at 1 x W; over the second half of "
        f"training the gap is {last['trend']}."
    )
    return Finding(
        topic="generalisation_gap", verdict=str(last["trend"]), statement=statement, rule=rule, rows=tuple(rows),
        evidence=f"{len(record.checkpoints)} checkpoints",
    )  # fmt: skip


def _gap_row(
    multiple: int, points: list[tuple[float, float]], interval: tuple[float, float] | None, num_looked_at: int
) -> dict[str, Any]:
    x, y = (np.array([point[axis] for point in points]) for axis in (0, 1))
    late = x >= 0.5 * x[-1]
    slope = fit_slope(x[late], y[late], num_looked_at)
    trend = "widening" if slope.low > 0 else "narrowing" if slope.high < 0 else "steady or undecided"
    low, high = (None, None) if interval is None else interval
    return {
        "position": f"{multiple} x W", "ratio": float(np.exp(y[-1])), "low": low, "high": high,
        "least": float(np.exp(y.min())), "most": float(np.exp(y.max())), "trend": trend,
    }  # fmt: skip


def _gap_interval(record: Record, sequences: SequenceNll | None, multiple: int) -> tuple[float, float] | None:
    if sequences is None or record.window is None:
        return None
    near, far = (sequences.column(record.window, m) for m in (1, multiple))
    if near is None or far is None:
        return None
    full = sequences.contexts["full"]
    found = bootstrap((full[:, far] - full[:, near])[:, None])
    return float(np.exp(found.low[0])), float(np.exp(found.high[0]))


def _differences(kept: list[SequenceNll], window: int, multiples: list[int]) -> dict[tuple[str, int], Floats]:
    """(context, multiple) to windowed minus full, (sequences, checkpoints)."""
    curves = {}
    for name in WINDOWED:
        for multiple in multiples:
            column = kept[0].column(window, multiple)
            if multiple == 1 or column is None or any(name not in found.contexts for found in kept):
                continue
            values = [found.contexts[name][:, column] - found.contexts["full"][:, column] for found in kept]
            curves[name, multiple] = np.stack(values, axis=1)
    return curves


def _from_scatter(record: Record) -> Finding:
    """Without NLL by sequence: blocks of checkpoints, with the scatter inside a block as the only noise known."""
    rule = (
        f"log(SW/full) in {NUM_BLOCKS} blocks of the steps; mean of a block with an interval from its own scatter, "
        f"widened for neighbours that depend on each other and for the number of blocks and labels looked at "
        f"(Bonferroni). It speaks of the sequences evaluated only: how other text would do, this scatter cannot tell."
    )
    curves = {}
    for multiple in record.multiples():
        figures = [(item.step or 0, *(item.perplexity(name, multiple) for name in ("full", "sw")))
                   for item in record.checkpoints]  # fmt: skip
        known = [(step, np.log(windowed / full)) for step, full, windowed in figures if full and windowed]
        if multiple > 1 and len(known) >= LEAST_OF_A_BLOCK * NUM_BLOCKS:
            curves["sw", multiple] = np.array(known)
    if not curves:
        return _unknown("crossover_step", "NLL by sequence was not kept, and there are too few checkpoints.", rule)
    looked_at = NUM_BLOCKS * len(curves)
    signs = {key: _block_signs(curve[:, 0], curve[:, 1], looked_at) for key, curve in curves.items()}
    most = max(len(curve) for curve in curves.values())
    found = _conclude(signs, rule, f"{most} checkpoints in {NUM_BLOCKS} blocks, one set of sequences")
    return dataclasses.replace(
        found, statement=f"On the sequences evaluated, which stand for no others: {found.statement}"
    )


def _block_signs(steps: Floats, values: Floats, num_looked_at: int) -> Signs:
    signs: list[int] = []
    centres: list[int] = []
    for block in np.array_split(np.arange(values.size), NUM_BLOCKS):
        inside = values[block]
        residuals = inside - inside.mean()
        correlation = autocorrelation(residuals)
        error = inside.std(ddof=1) / np.sqrt(inside.size) * np.sqrt((1 + correlation) / (1 - correlation))
        # Two-sided 5 % shared between all blocks: the normal bound sqrt(2 log(N / 0.05)), never too small.
        reach = np.sqrt(2 * np.log(2 * num_looked_at / 0.05)) * t_quantile(inside.size - 1) / 1.96 * error
        signs.append(int(np.sign(inside.mean())) if abs(inside.mean()) > reach else 0)
        centres.append(int(steps[block].mean()))
    return np.array(signs), centres


def _conclude(by_curve: dict[tuple[str, int], Signs], rule: str, evidence: str) -> Finding:
    rows, kinds = [], []
    for (name, multiple), (signs, steps) in by_curve.items():
        changes = sign_changes(signs)
        kind = "none" if not changes else "persistent" if len(changes) == 1 else "excursion"
        sure = [int(sign) for sign in signs if sign]
        last = {1: f"full better than {name}", -1: f"{name} better than full"}.get(sure[-1] if sure else 0, _NONE_SHOWN)
        where = "; ".join(f"{steps[before]:,} … {steps[after]:,}" for before, after, _ in changes) or None
        kinds.append(kind)
        rows.append({"context": name, "position": f"{multiple} x W", "crossover": kind, "between_steps": where,
                     "surely_decided": f"{len(sure)} of {len(signs)}", "last_sure": last})  # fmt: skip
    found = [row for row in rows if row["crossover"] != "none"]
    texts = [f"{row['position']} against {row['context']}: {row['crossover']} between steps {row['between_steps']}"
             for row in found]  # fmt: skip
    standing = [f"{row['last_sure']} at {row['position']}" for row in rows if row["last_sure"] != _NONE_SHOWN]
    statement = "; ".join(texts) + "." if texts else "No crossover along training is shown at any position."
    statement += f" Last shown: {', '.join(standing)}." if standing else ""
    verdict = "none" if not found else "persistent" if "persistent" in kinds else "excursion"
    return Finding(
        topic="crossover_step", verdict=verdict, statement=statement, rule=rule, evidence=evidence, rows=tuple(rows)
    )


def _unknown(topic: str, statement: str, rule: str) -> Finding:
    return Finding(topic=topic, verdict="unknown", statement=statement, rule=rule, evidence="none")
