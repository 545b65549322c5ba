"""Measure how often the rule that names a winner is wrong when no context is better, by number of sequences.

`python benchmarks/false_alarms.py [CHUNK_NLL]` prints a table. Differences between contexts are drawn from
distributions with mean 0, or from the file chunk_nll.safetensors of an evaluation of many sequences, centered so that
no context is better. Each trial draws n sequences and applies the rule twice: with percentile intervals and with those
that tttkit uses, which are of Student's t below 16 sequences. Also shown is how often a single 95 % interval
excludes 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tttkit.analyze.intervals import bootstrap
from tttkit.analyze.record import read_sequences
from tttkit.analyze.winner import NO_WINNER, PairedRatio, name_winner
from tttkit.results.contexts import required_contexts

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
"""Draw the differences of one trial in nats, (sequences, contexts)."""
SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 14, 15, 16, 24, 32, 64)
TRIALS = 2000
BATCH = 100
NUM_RESAMPLES = 2000
CONTEXTS = required_contexts()


def correlated(noise: Callable[[np.random.Generator, tuple[int, int]], Floats], correlation: float) -> Draw:
    """Return a draw of contexts whose differences have this correlation, as they share the full context."""

    def draw(generator: np.random.Generator, count: int) -> Floats:
        shared, own = noise(generator, (count, 1)), noise(generator, (count, len(CONTEXTS)))
        return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own

    return draw


def distributions(correlation: float = 0.5) -> dict[str, Draw]:
    """Return draws of the usual shapes: normal, with heavy tails, and skewed to either side."""
    return {
        "normal": correlated(lambda generator, shape: generator.normal(size=shape), correlation),
        "Laplace": correlated(lambda generator, shape: generator.laplace(size=shape), correlation),
        "skewed +1": correlated(lambda generator, shape: generator.gamma(4, 1, shape) - 4, correlation),
        "skewed -1": correlated(lambda generator, shape: 4 - generator.gamma(4, 1, shape), correlation),
    }


def measured(path: Path) -> dict[str, Draw]:
    """Return draws, with replacement, of the centered differences at each label of an evaluation."""
    sequences = read_sequences(path)
    if sequences is None:
        sys.exit(f"{path} holds no NLL by sequence")
    columns = {multiple: sequences.column(64, multiple) for multiple in (2, 5, 10, 20)}
    draws: dict[str, Draw] = {}
    for multiple, column in columns.items():
        values = [sequences.contexts[name][:, column] - sequences.contexts["full"][:, column] for name in CONTEXTS]
        centered = np.stack(values, axis=1)
        centered -= centered.mean(axis=0)
        draws[f"measured at {multiple} x W"] = lambda generator, count, centered=centered: centered[
            generator.integers(len(centered), size=count)
        ]
    return draws


def percentiles(values: Floats, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the percentile intervals of the means of columns."""
    count = len(values)
    weights = generator.multinomial(count, np.full(count, 1 / count), NUM_RESAMPLES) / count
    low, high = np.quantile(weights @ values, [0.025, 0.975], axis=0)
    return low, high


def alarms(observed: Floats, low: Floats, high: Floats) -> tuple[float, float]:
    """Return the shares of trials in which the rule names a winner, and in which the first interval excludes 1."""
    names = []
    for values in np.exp(np.stack([observed, low, high])).reshape(3, -1, len(CONTEXTS)).transpose(1, 2, 0):
        ratios = [
            PairedRatio(
                context=context, ratio=ratio, low=bottom, high=top, document_low=None, document_high=None,
                num_documents=0,
            )
            for context, (ratio, bottom, top) in zip(CONTEXTS, values.tolist(), strict=True)
        ]  # fmt: skip
        names.append(name_winner(ratios))
    single = (low > 0) | (high < 0)
    return float(np.mean([name != NO_WINNER for name in names])), float(single[:: len(CONTEXTS)].mean())


def measure(draw: Draw, count: int, trials: int = TRIALS, seed: int = 0) -> tuple[float, float, float, float]:
    """Return the shares of `alarms` with percentile intervals, then with those that tttkit uses."""
    generator, shares = np.random.default_rng(seed), []
    for _ in range(trials // BATCH):
        values = np.concatenate([draw(generator, count) for _ in range(BATCH)], axis=1)
        ours = bootstrap(values)
        before = alarms(ours.observed, *percentiles(values, generator))
        shares.append((*before, *alarms(ours.observed, ours.low, ours.high)))
    rule, single, our_rule, our_single = np.mean(shares, axis=0)
    return rule, single, our_rule, our_single


def main() -> None:
    """Print a row per distribution and number of sequences."""
    draws = measured(Path(sys.argv[1]).parent) if sys.argv[1:] else distributions()
    print(f"{'false alarms in % of trials':<28}{'percentile':>22}{'tttkit':>22}")
    print(f"{'':<20}{'n':>8}{'rule':>11}{'one interval':>13}{'rule':>9}{'one interval':>13}")
    for name, draw in draws.items():
        for count in SIZES:
            rule, single, our_rule, our_single = (100 * share for share in measure(draw, count))
            print(f"{name:<20}{count:>8}{rule:>11.1f}{single:>13.1f}{our_rule:>9.1f}{our_single:>13.1f}", flush=True)


if __name__ == "__main__":
    main()
