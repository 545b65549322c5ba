"""Intervals against scipy, the same for any number of threads, with the sign that the protocol names."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from tttkit.evaluate import paired_bootstrap


@pytest.fixture(scope="module")
def pair():
    """NLL of 48 sequences of 48 positions in two contexts, correlated as real ones are."""
    generator = np.random.default_rng(5)
    text = generator.gamma(2, 1.5, (48, 48))
    full = text + generator.normal(0, 0.3, text.shape)
    windowed = text + generator.normal(0.05, 0.4, text.shape) + generator.normal(0, 0.2, (48, 1))
    return full.astype(np.float32), windowed.astype(np.float32)


def test_against_scipy(pair):
    full, windowed = pair
    intervals = paired_bootstrap(full, windowed, 16, 16, num_resamples=20_000)
    for chunk in range(3):
        columns = slice(16 * chunk, 16 * chunk + 16)
        a, b = (nll[:, columns].mean(axis=1, dtype=np.float64) for nll in (full, windowed))
        expected = scipy.stats.bootstrap(
            (a, b), lambda a, b, axis=-1: b.mean(axis=axis) - a.mean(axis=axis), paired=True, vectorized=True,
            method="percentile", n_resamples=20_000, random_state=np.random.default_rng(0),
        )  # fmt: skip
        # Monte-Carlo error of a 2.5 % quantile from 20,000 draws is 0.019 standard errors; two of them, five times.
        tolerance = 5 * 2**0.5 * 0.019 * expected.standard_error
        assert intervals.difference[chunk] == pytest.approx(b.mean() - a.mean(), abs=1e-12)
        assert intervals.difference_low[chunk] == pytest.approx(expected.confidence_interval.low, abs=tolerance)
        assert intervals.difference_high[chunk] == pytest.approx(expected.confidence_interval.high, abs=tolerance)


def test_the_difference_is_windowed_minus_full_and_the_ratio_its_exponential(pair):
    full, _ = pair
    intervals = paired_bootstrap(full, full + np.float32(0.5), num_resamples=100)
    np.testing.assert_allclose(intervals.difference, 0.5, atol=1e-6)
    for ratio in (intervals.ratio, intervals.ratio_low, intervals.ratio_high):
        np.testing.assert_allclose(ratio, np.exp(0.5), atol=1e-6)
    swapped = paired_bootstrap(full + np.float32(0.5), full, num_resamples=100)
    assert (swapped.ratio < 1).all()


def test_the_interval_is_paired(pair):
    """Without pairing, the spread within each sample would hide the difference."""
    full, windowed = pair
    paired = paired_bootstrap(full, windowed)
    apart = paired_bootstrap(full, np.roll(windowed, 1, axis=0))
    widths = [each.difference_high - each.difference_low for each in (paired, apart)]
    assert (widths[0] < 0.5 * widths[1]).all()
    assert (paired.difference_low < paired.difference).all()
    assert (paired.difference < paired.difference_high).all()


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_the_interval_has_its_nominal_coverage(draw):
    """2,000 experiments at n = 64, columns of one bootstrap: 92-97 % of intervals hold the mean. At n = 16: printed."""
    covered = {}
    for count in (64, 16):
        generator = np.random.default_rng(11)
        values = generator.normal(1, 1, (count, 2000)) if draw == "normal" else generator.exponential(1, (count, 2000))
        windowed = np.repeat(values.astype(np.float32), 2, axis=1)
        intervals = paired_bootstrap(np.zeros_like(windowed), windowed, 2, 2, num_resamples=1000)
        covered[count] = float(((intervals.difference_low <= 1) & (intervals.difference_high >= 1)).mean())
    print(f"coverage of the 95 % interval, {draw} differences: {covered}")
    assert 0.92 <= covered[64] <= 0.97
    assert 0.80 <= covered[16] < covered[64]


def test_medians_against_numpy(pair):
    """Compare with numpy, whose own draws give the same difference of lower medians within Monte-Carlo error."""
    full, windowed = pair
    intervals = paired_bootstrap(full, windowed, 16, 16, num_resamples=4000, statistic="median")
    a, b = (nll.reshape(48, 3, 16).mean(axis=2, dtype=np.float64) for nll in (full, windowed))
    rows = np.random.default_rng(1).integers(48, size=(4000, 48))
    lower = [np.sort(values[rows], axis=1)[:, 23] for values in (a, b)]
    low, high = np.quantile(lower[1] - lower[0], [0.025, 0.975], axis=0)
    spread = (lower[1] - lower[0]).std(axis=0)
    expected = np.sort(b, axis=0)[23] - np.sort(a, axis=0)[23]
    np.testing.assert_allclose(intervals.difference, expected, rtol=1e-12)
    assert (abs(intervals.difference_low - low) < 0.3 * spread).all()
    assert (abs(intervals.difference_high - high) < 0.3 * spread).all()


def test_the_simultaneous_band_holds_the_single_intervals_and_is_wider_for_more_columns(pair):
    intervals = paired_bootstrap(*pair)
    assert (intervals.band_low < intervals.difference_low).all()
    assert (intervals.band_high > intervals.difference_high).all()
    one = paired_bootstrap(pair[0][:, :16].copy(), pair[1][:, :16].copy())
    assert one.band_high[0] - one.band_low[0] < intervals.band_high[0] - intervals.band_low[0]


def test_the_seed_decides_and_nothing_else(pair):
    one, again, other = (paired_bootstrap(*pair, num_resamples=500, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.difference_low, again.difference_low)
    np.testing.assert_array_equal(one.difference_high, again.difference_high)
    assert not np.array_equal(one.difference_low, other.difference_low)
    np.testing.assert_array_equal(one.difference, other.difference)


SCRIPT = """
import json, numpy as np
from tttkit.evaluate import paired_bootstrap
full, windowed = np.random.default_rng(0).gamma(2, 2, (2, 30, 64)).astype(np.float32)
intervals = paired_bootstrap(full, windowed, num_resamples=1000, seed=9)
print(json.dumps([intervals.difference_low.tolist(), intervals.difference_high.tolist()]))
"""


def test_the_number_of_threads_does_not_matter():
    answers = []
    for num_threads in ("1", "2", "5"):
        environment = {**os.environ, "RAYON_NUM_THREADS": num_threads}
        command = [sys.executable, "-c", SCRIPT]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        answers.append(json.loads(answer.stdout))
    assert answers[0] == answers[1] == answers[2]
    assert all(low < high for low, high in zip(*answers[0], strict=True))


def test_a_chunk_with_an_unknown_position_is_unknown_in_every_figure(pair):
    full, windowed = pair[0], pair[1].copy()
    windowed[7, 20] = np.nan
    result = paired_bootstrap(full, windowed, num_resamples=200)
    for values in (result.difference, result.difference_low, result.difference_high, result.ratio, result.ratio_low):
        assert np.isnan(values).tolist() == [False, True, False]


NLL = np.ones((2, 32), dtype=np.float32)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "nll_full", {"nll_full": NLL.astype(np.float64)}),
        (TypeError, "nll_sw", {"nll_sw": NLL.tolist()}),
        (ValueError, "nll_full and nll_sw", {"nll_sw": NLL[:1]}),
        (ValueError, "chunk_size", {"chunk_size": 0}),
        (ValueError, "chunk_size 40", {"chunk_size": 40}),
        (ValueError, "num_resamples", {"num_resamples": 0}),
        (TypeError, "num_resamples", {"num_resamples": 1e4}),
        (ValueError, "seed", {"seed": -1}),
        (ValueError, "statistic", {"statistic": "mode"}),
    ],
)
def test_a_bad_argument_is_named(error, name, arguments):
    values = {"nll_full": NLL, "nll_sw": NLL, **arguments}
    with pytest.raises(error, match=f"^{name} "):
        paired_bootstrap(**values)
