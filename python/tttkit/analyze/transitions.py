"""Phase transitions: kinks of a curve in log-step that smooth curvature and noise do not explain."""

from __future__ import annotations

import dataclasses

import numpy as np

from tttkit.analyze.finding import Finding
from tttkit.analyze.record import Record
from tttkit.analyze.trend import Floats
from tttkit.results.values import number

SIGNIFICANCE = 0.02
NUM_PERMUTATIONS = 999
SMOOTH_DEGREE = 4
LEAST_POINTS = 16
MOST_POINTS = 60
SEED = 0
_MOST_CORRELATION = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kink:
    """The strongest change of slope, and the probability that chance alone gives one as strong."""

    x: float
    change: float
    """Slope after minus slope before, in the units of y per unit of log(x)."""
    p: float


def transitions(record: Record) -> Finding:
    """Look for kinks of the validation curve and of the training loss against log-step."""
    rule = (
        f"A smooth curve (degree {SMOOTH_DEGREE}) is fitted to log perplexity and to training loss over log "
        f"{record.axis}, and compared with one whose slope also changes where that helps most. The null distribution "
        f"comes from {NUM_PERMUTATIONS} permutations of the innovations, which keep the correlation of neighbors. A "
        f"transition is named if p < {SIGNIFICANCE}."
    )
    key = record.criterion()
    x, values = record.series(key)
    curves = {key: (x, np.log(values))}
    logged = [(number(item.get("tokens_seen")), number(item.get("loss"))) for item in record.metrics]
    known = [(a, b) for a, b in logged if a and b is not None]
    if known:
        curves["training loss"] = (np.array([a for a, _ in known]), np.array([b for _, b in known]))
    rows, texts = [], []
    for name, (at, y) in curves.items():
        kink = strongest_kink(at, y) if at.size >= LEAST_POINTS else None
        is_shown = kink is not None and kink.p < SIGNIFICANCE
        rows.append({"curve": name, "points": int(at.size), "strongest_at": None if kink is None else kink.x,
                     "change_of_slope": None if kink is None else kink.change, "p": None if kink is None else kink.p,
                     "transition": "too few points" if kink is None else "yes" if is_shown else "no"})  # fmt: skip
        if is_shown and kink is not None:
            texts.append(f"{name} changes its slope by {kink.change:+.3f} per e-fold at {kink.x:,.0f} {record.axis}")
    verdict = "found" if texts else "none" if any(row["p"] is not None for row in rows) else "unknown"
    otherwise = {
        "none": "No phase transition is shown.",
        "unknown": "There are too few points to look for a phase transition.",
    }
    return Finding(
        topic="phase_transitions", verdict=verdict, rule=rule, rows=tuple(rows),
        statement="; ".join(texts) + "." if texts else otherwise[verdict],
        evidence=", ".join(f"{row['points']} points of {row['curve']}" for row in rows),
    )  # fmt: skip


def strongest_kink(x: Floats, y: Floats) -> Kink:
    """Find the hinge in log(x) that improves a smooth fit most, with its permutation p-value."""
    u, values, weights = _binned(np.log(x), y)
    basis = np.vander((u - u.mean()) / np.ptp(u), SMOOTH_DEGREE + 1) * weights[:, None]
    smooth, _ = np.linalg.qr(basis)
    inner = u[(u > np.quantile(u, 0.15)) & (u < np.quantile(u, 0.85))]
    hinges = np.maximum(u[:, None] - inner, 0) * weights[:, None]  # (points, places)
    hinges -= smooth @ (smooth.T @ hinges)
    lengths = np.linalg.norm(hinges, axis=0)
    directions = hinges / lengths
    target = values * weights
    residuals = target - smooth @ (smooth.T @ target)
    strength = directions.T @ residuals
    best = int(np.argmax(np.abs(strength)))
    statistic = _gain(np.abs(strength).max(), float(residuals @ residuals))
    null = _null(residuals, smooth, directions)
    p = (1 + int((null >= statistic).sum())) / (1 + null.size)
    return Kink(x=float(np.exp(inner[best])), change=float(strength[best] / lengths[best]), p=p)


def _null(residuals: Floats, smooth: Floats, directions: Floats) -> Floats:
    """Return the statistic for residuals whose innovations are permuted and get random signs."""
    generator = np.random.default_rng(SEED)
    correlation = _correlation(residuals)
    first = residuals[:1] * np.sqrt(1 - correlation**2)
    innovations = np.concatenate((first, residuals[1:] - correlation * residuals[:-1]))
    pool = np.tile(innovations, (NUM_PERMUTATIONS, 1))
    # The first half only lets the correlation build up; it is cut off below.
    noise = np.hstack([generator.permuted(pool, axis=1), generator.permuted(pool, axis=1)])
    noise *= generator.choice((-1.0, 1.0), noise.shape)
    for column in range(1, noise.shape[1]):
        noise[:, column] += correlation * noise[:, column - 1]
    noise = noise[:, residuals.size :]
    noise = noise - (noise @ smooth) @ smooth.T
    strength = np.abs(noise @ directions).max(axis=1)
    remaining = np.maximum((noise**2).sum(axis=1) - strength**2, 1e-300)
    statistic: Floats = strength**2 / remaining
    return statistic


def _correlation(residuals: Floats) -> float:
    """Return the correlation of neighbors, corrected for the bias of the fit; 0 if it is within its standard error."""
    total = float(residuals @ residuals)
    if total == 0:
        return 0.0
    raw = float(residuals[1:] @ residuals[:-1]) / total
    count = residuals.size
    corrected = (raw * count + SMOOTH_DEGREE + 1) / (count - SMOOTH_DEGREE - 3)
    return float(min(corrected, _MOST_CORRELATION)) if corrected > 1 / np.sqrt(count) else 0.0


def _gain(strength: float, total: float) -> float:
    """Return the squares that the hinge explains divided by the remaining squares; 0 if a smooth curve leaves none."""
    remaining = total - strength**2
    return float(strength**2 / remaining) if remaining > 1e-12 else 0.0


def _binned(u: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return at most MOST_POINTS means over equal shares of log-step; each is weighted by the root of its count."""
    if u.size <= MOST_POINTS:
        return u, y, np.ones(u.size)
    edges = np.linspace(u[0], u[-1], MOST_POINTS + 1)
    bins = np.clip(np.searchsorted(edges, u, side="right") - 1, 0, MOST_POINTS - 1)
    counts = np.bincount(bins, minlength=MOST_POINTS)
    used = counts > 0
    means = [np.bincount(bins, weights=values, minlength=MOST_POINTS)[used] / counts[used] for values in (u, y)]
    return means[0], means[1], np.sqrt(counts[used])
