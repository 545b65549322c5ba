"""Find how the comparison of contexts changes during training: crossover step, generalization gap."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tttkit.analyze.crossover import sign_changes
from tttkit.analyze.finding import Finding
from tttkit.analyze.intervals import bootstrap
from tttkit.analyze.phrases import listed, places
from tttkit.analyze.record import Record, SequenceNll
from tttkit.analyze.trend import Floats, autocorrelation, fit_slope, t_quantile
from tttkit.results.contexts import windowed_contexts

NUM_BLOCKS = 20
"""Number of blocks into which a curve without intervals is cut."""
FEWEST_PER_BLOCK = 5
"""Smallest average number of evaluations per block for an estimate of its scatter."""
Signs = tuple[Any, list[int]]
"""Signs along training (+1, -1 or 0), and the step of each."""
_NONE_SHOWN = "no difference shown"
_CROSSOVERS = {
    "persistent": "there is a persistent crossover against {}",
    "excursion": "there is an excursion against {}",
}


def crossover_step(record: Record) -> Finding:
    """Find the step from which `full` is better or worse than a windowed context, and whether it stays so."""
    rule = (
        "Simultaneous (max-t) 95 % bands cover all evaluations, labels and contexts. A crossover is persistent if the "
        "sign changes once and the new sign is never significantly contradicted, and an excursion if it changes back."
    )
    loaded = [(item.step or 0, item.sequences()) for item in record.evaluations]
    kept = [(step, sequences) for step, sequences in loaded if sequences is not None]
    if record.window is None or len(kept) < 2 or len(kept) < len(loaded):
        return _from_scatter(record)
    first = kept[0][1]
    if not all(sequences.same_text(first) for _, sequences in kept):
        return _unknown("crossover_step", "The evaluations used different sequences.", rule)
    steps = [step for step, _ in kept]
    curves = _differences([sequences for _, sequences in kept], record.window, record.multiples())
    if not curves:
        return _unknown("crossover_step", "No position beyond W was measured.", rule)
    signs = bootstrap(np.concatenate(list(curves.values()), axis=1)).sign(simultaneous=True)
    by_curve = {key: (row, steps) for key, row in zip(curves, signs.reshape(len(curves), len(steps)), strict=True)}
    evidence = f"n = {first.documents.size} sequences, the same in {len(steps)} evaluations"
    return _conclude(by_curve, rule, evidence)


def generalisation_gap(record: Record) -> Finding:
    """Find the ratio PPL@m x W / PPL@1 x W of the full context: its last value with interval, and its trend."""
    rule = (
        "Perplexity at m x W is divided by perplexity at 1 x W over the same sequences, with a 95 % paired bootstrap "
        "interval. The trend is a line fitted to the logarithm of this ratio over the second half of training. It is "
        "named if its interval excludes 0; the intervals hold for all positions together in 95 % of runs."
    )
    sequences = record.evaluations[-1].sequences()
    curves = {}
    for multiple in record.multiples():
        points = [
            (record.position(item), np.log(far / near))
            for item in record.evaluations
            if item.step != 0
            and (far := item.summary.perplexity("full", multiple))
            and (near := item.summary.perplexity("full", 1))
        ]
        if multiple > 1 and points:
            curves[multiple] = points
    rows = [
        _gap_row(multiple, points, _gap_interval(record, sequences, multiple), len(curves))
        for multiple, points in curves.items()
    ]
    if not rows:
        return _unknown("generalisation_gap", "No figure beyond 1 x W was recorded.", rule)
    last = rows[-1]
    interval = "(no interval)" if last["low"] is None else f"[{last['low']:.3f}, {last['high']:.3f}]"
    statement = (
        f"PPL at {last['position']} is {last['ratio']:.3f} {interval} times PPL at 1 x W; over the second half of "
        f"training the gap is {last['trend']}."
    )
    return Finding(
        topic="generalisation_gap", verdict=str(last["trend"]), statement=statement, rule=rule, rows=tuple(rows),
        evidence=f"{len(record.evaluations)} evaluations",
    )  # fmt: skip


def _gap_row(
    multiple: int, points: list[tuple[float, float]], interval: tuple[float, float] | None, num_tests: int
) -> dict[str, Any]:
    x, y = (np.array([point[axis] for point in points]) for axis in (0, 1))
    late = x >= 0.5 * x[-1]
    slope = fit_slope(x[late], y[late], num_tests)
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
    gap = bootstrap((full[:, far] - full[:, near])[:, None])
    return float(np.exp(gap.low[0])), float(np.exp(gap.high[0]))


def _differences(kept: list[SequenceNll], window: int, multiples: list[int]) -> dict[tuple[str, int], Floats]:
    """Return windowed minus full in nats, by (context, multiple), each (sequences, evaluations)."""
    curves = {}
    for name in windowed_contexts():
        for multiple in multiples:
            column = kept[0].column(window, multiple)
            if multiple == 1 or column is None or any(name not in sequences.contexts for sequences in kept):
                continue
            values = [each.contexts[name][:, column] - each.contexts["full"][:, column] for each in kept]
            curves[name, multiple] = np.stack(values, axis=1)
    return curves


def _from_scatter(record: Record) -> Finding:
    """Find the crossover without NLL by sequence, from blocks of evaluations and the scatter inside each block."""
    rule = (
        f"log(SW/full) is averaged in {NUM_BLOCKS} blocks of steps. A mean has an interval from the scatter inside "
        f"the block, widened for correlated neighbours and for the number of blocks and labels (Bonferroni). It holds "
        f"only for the sequences evaluated: this scatter says nothing about other text."
    )
    curves = {}
    for multiple in record.multiples():
        figures = [(item.step or 0, *(item.summary.perplexity(name, multiple) for name in ("full", "sw")))
                   for item in record.evaluations]  # fmt: skip
        known = [(step, np.log(windowed / full)) for step, full, windowed in figures if full and windowed]
        if multiple > 1 and len(known) >= FEWEST_PER_BLOCK * NUM_BLOCKS:
            curves["sw", multiple] = np.array(known)
    if not curves:
        return _unknown("crossover_step", "NLL by sequence was not kept, and there are too few evaluations.", rule)
    num_tests = NUM_BLOCKS * len(curves)
    signs = {key: _block_signs(curve[:, 0], curve[:, 1], num_tests) for key, curve in curves.items()}
    most = max(len(curve) for curve in curves.values())
    finding = _conclude(signs, rule, f"{most} evaluations in {NUM_BLOCKS} blocks, one set of sequences")
    return dataclasses.replace(
        finding, statement=f"On the sequences evaluated, which do not represent other text: {finding.statement}"
    )


def _block_signs(steps: Floats, values: Floats, num_tests: int) -> Signs:
    signs: list[int] = []
    centres: list[int] = []
    for block in np.array_split(np.arange(values.size), NUM_BLOCKS):
        inside = values[block]
        residuals = inside - inside.mean()
        correlation = autocorrelation(residuals)
        error = inside.std(ddof=1) / np.sqrt(inside.size) * np.sqrt((1 + correlation) / (1 - correlation))
        # All blocks share a two-sided error of 5 %; the normal bound sqrt(2 log(N / 0.05)) is never too small.
        reach = np.sqrt(2 * np.log(2 * num_tests / 0.05)) * t_quantile(inside.size - 1) / 1.96 * error
        signs.append(int(np.sign(inside.mean())) if abs(inside.mean()) > reach else 0)
        centres.append(int(steps[block].mean()))
    return np.array(signs), centres


def _conclude(by_curve: dict[tuple[str, int], Signs], rule: str, evidence: str) -> Finding:
    rows, kinds = [], []
    crossovers: dict[tuple[str, str, str], list[int]] = {}
    standing: dict[tuple[str, str, str], list[int]] = {}
    for (name, multiple), (signs, steps) in by_curve.items():
        changes = sign_changes(signs)
        kind = "none" if not changes else "persistent" if len(changes) == 1 else "excursion"
        significant = [int(sign) for sign in signs if sign]
        last = significant[-1] if significant else 0
        where = "; ".join(f"{steps[before]:,} … {steps[after]:,}" for before, after, _ in changes) or None
        kinds.append(kind)
        shown = {1: f"full better than {name}", -1: f"{name} better than full", 0: _NONE_SHOWN}[last]
        rows.append({"context": name, "position": f"{multiple} x W", "crossover": kind, "between_steps": where,
                     "significant": f"{len(significant)} of {len(signs)}", "last_shown": shown})  # fmt: skip
        if where is not None:
            crossovers.setdefault((name, _CROSSOVERS[kind], f" between steps {where}"), []).append(multiple)
        if last:
            template = "favors full over {}" if last > 0 else "favors {} over full"
            standing.setdefault((name, template, ""), []).append(multiple)
    statement = f"{'; '.join(_grouped(crossovers)) or 'No crossover is shown during training at any position'}."
    statement = statement[0].upper() + statement[1:]
    statement += f" The last significant difference {listed(_grouped(standing))}." if standing else ""
    verdict = "none" if not crossovers else "persistent" if "persistent" in kinds else "excursion"
    return Finding(
        topic="crossover_step", verdict=verdict, statement=statement, rule=rule, evidence=evidence, rows=tuple(rows)
    )


def _grouped(clauses: dict[tuple[str, str, str], list[int]]) -> list[str]:
    """Return one clause for all contexts with the same statement at the same positions.

    Keys are (context, template with a gap for contexts, end of the clause); values are the multiples of W.
    """
    contexts: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for (name, template, end), multiples in clauses.items():
        contexts.setdefault((template, end, tuple(multiples)), []).append(name)
    return [
        f"{template.format(listed(names))} at {places(multiples)}{end}"
        for (template, end, multiples), names in contexts.items()
    ]


def _unknown(topic: str, statement: str, rule: str) -> Finding:
    return Finding(topic=topic, verdict="unknown", statement=statement, rule=rule, evidence="none")
