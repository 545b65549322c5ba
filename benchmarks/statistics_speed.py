"""Compare chunk statistics and bootstrap with torch, scipy, numpy and numba.

`make bench` runs it. numba is optional: without it, its row is left out. First, all implementations of a group must
agree. Then every round times each one in turn on the same arrays, after one call that is not timed; short calls are
repeated. A ratio is the median over rounds of the ratio within a round, above 1 if ours is faster.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.stats
import torch

from tttkit.evaluate import chunk_perplexity, paired_bootstrap

ROUNDS = 15
SECONDS = 0.02
"""A call is repeated within a round for about this many seconds."""
NUM_RESAMPLES = 10_000
PAUSE = 0.05
"""Seconds between two implementations: the threads of OpenMP spin for a while and would slow the next one down.

After such a pause a processor runs at half its speed for some milliseconds, so the first call after it is not timed.
"""
OURS = "tttkit"


def earlier_median(nll: torch.Tensor) -> list[float]:
    """Compute medians as the earlier system did: running sums, a loop over chunks, the median of each."""
    sums = torch.cat([torch.zeros(len(nll), 1), nll.cumsum(1)], dim=1)
    starts = range(0, nll.shape[1] - 15, 16)
    return [float(((sums[:, start + 16] - sums[:, start]) / 16).median().exp()) for start in starts]


def torch_median(nll: torch.Tensor) -> torch.Tensor:
    whole = nll[:, : nll.shape[1] // 16 * 16]
    return whole.reshape(len(nll), -1, 16).mean(2).median(0).values.exp()


def torch_mean(nll: torch.Tensor) -> torch.Tensor:
    whole = nll[:, : nll.shape[1] // 16 * 16]
    return whole.reshape(len(nll), -1, 16).double().mean((0, 2)).exp()


def chunk_groups(rows: int, columns: int) -> dict[str, dict[str, Callable[[], object]]]:
    nll = np.random.default_rng(0).gamma(2, 2, (rows, columns)).astype(np.float32)
    tensor = torch.from_numpy(nll)
    where = f"chunks of [{rows}, {columns}]"
    return {
        f"{where}, median": {
            OURS: lambda: chunk_perplexity(nll, aggregate="median").perplexity,
            "torch reshape.mean.median": lambda: torch_median(tensor),
            "the earlier evaluator": lambda: earlier_median(tensor),
        },
        f"{where}, mean in float64": {
            OURS: lambda: chunk_perplexity(nll).perplexity,
            "torch reshape.double.mean": lambda: torch_mean(tensor),
        },
    }


def numpy_weights(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Resample means by a product of a matrix of draws with the differences."""
    generator = np.random.default_rng(0)
    draws = generator.multinomial(len(a), np.full(len(a), 1 / len(a)), NUM_RESAMPLES) / len(a)
    return np.quantile(draws @ (b - a), [0.025, 0.975], axis=0)


def numba_median():
    """Return a compiled bootstrap of lower medians by counts over sorted values; None without numba."""
    try:
        import numba
    except ImportError:
        return None

    @numba.njit
    def lower_median(values, order, counts):
        counted, half = 0, (len(counts) + 1) // 2
        for row in order:
            counted += counts[row]
            if counted >= half:
                return values[row]
        return np.nan

    @numba.njit(parallel=True)
    def bootstrap(a, b, order_a, order_b, draws):
        columns, count = a.shape
        differences = np.empty((draws.shape[0], columns))
        for index in numba.prange(draws.shape[0]):
            counts = np.zeros(count, dtype=np.int64)
            for row in draws[index]:
                counts[row] += 1
            for column in range(columns):
                left = lower_median(a[column], order_a[column], counts)
                differences[index, column] = lower_median(b[column], order_b[column], counts) - left
        return differences

    def run(a, b):
        draws = np.random.default_rng(0).integers(len(a), size=(NUM_RESAMPLES, len(a)))
        a, b = (np.ascontiguousarray(values.T) for values in (a, b))
        differences = bootstrap(a, b, a.argsort(axis=1), b.argsort(axis=1), draws)
        return np.quantile(differences, [0.025, 0.975], axis=0)

    return run


def bootstrap_groups() -> dict[str, dict[str, Callable[[], object]]]:
    full, windowed = np.random.default_rng(0).gamma(2, 2, (2, 64, 1279)).astype(np.float32)
    a, b = (nll[:, :1264].reshape(64, 79, 16).mean(2, dtype=np.float64) for nll in (full, windowed))
    mean = {
        OURS: lambda: paired_bootstrap(full, windowed),
        "scipy.stats.bootstrap": lambda: scipy.stats.bootstrap(
            (b - a,), np.mean, vectorized=True, n_resamples=NUM_RESAMPLES, method="percentile",
            random_state=np.random.default_rng(0),
        ),
        "numpy weights @ differences": lambda: numpy_weights(a, b),
    }  # fmt: skip
    median: dict[str, Callable[[], object]] = {
        OURS: lambda: paired_bootstrap(full, windowed, statistic="median"),
    }
    compiled = numba_median()
    if compiled is not None:
        median["numba, parallel"] = lambda: compiled(a, b)
    return {"bootstrap of the mean, 64 x 79": mean, "bootstrap of the median, 64 x 79": median}


def check(group: dict[str, Callable[[], object]], tolerance: float) -> None:
    """Assert that a group's implementations agree within the rounding of float32 or Monte-Carlo error."""
    values = {name: bounds(call()) for name, call in group.items()}
    for name, value in values.items():
        np.testing.assert_allclose(value, values[OURS], rtol=tolerance, atol=tolerance, err_msg=name)


def bounds(answer: object) -> np.ndarray:
    """Return the figures of an answer of any class: values of chunks, or low and high ends of intervals."""
    interval = getattr(answer, "confidence_interval", None)
    if interval is not None:
        return np.stack([interval.low, interval.high])
    if hasattr(answer, "difference_low"):
        return np.stack([answer.difference_low, answer.difference_high])
    return np.asarray(answer)


def measure(group: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the milliseconds of a call in every round."""
    loops = {}
    for name, call in group.items():
        started = time.perf_counter()
        call()
        loops[name] = max(1, int(SECONDS / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {name: [] for name in group}
    for _ in range(ROUNDS):
        for name, call in group.items():
            time.sleep(PAUSE)
            call()
            started = time.perf_counter()
            for _ in range(loops[name]):
                call()
            times[name].append(1e3 * (time.perf_counter() - started) / loops[name])
    return times


def main() -> None:
    """Print the ratios. --small leaves the large array out. RAYON_NUM_THREADS sets the threads of torch too."""
    torch.set_num_threads(int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count() or 1)))
    groups = {**chunk_groups(64, 1279), **bootstrap_groups()}
    if "--small" not in sys.argv[1:]:
        groups |= chunk_groups(4096, 8191)
    for title, group in groups.items():
        check(group, 0.05 if "bootstrap" in title else 5e-4)  # the peers sum chunks in float32
        times = measure(group)
        print(title)
        for name, values in times.items():
            ratios = [value / ours for value, ours in zip(values, times[OURS], strict=True)]
            ratio = "" if name == OURS else f"   {OURS} is {statistics.median(ratios):.2f}x as fast"
            print(f"  {name:<28} {statistics.median(values):9.3f} ms{ratio}")


if __name__ == "__main__":
    main()
