from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from tttkit.evaluate import paired_bootstrap


def make(num_sequences=48, num_positions=48, seed=0):
    generator = np.random.default_rng(seed)
    full = generator.exponential(4, (num_sequences, num_positions)).astype(np.float32)
    return full, (full + generator.normal(0.1, 0.5, full.shape)).astype(np.float32)


def test_agrees_with_scipy_within_monte_carlo_error():
    full, sw = make()
    found = paired_bootstrap(full, sw, num_resamples=20_000)
    for chunk in range(3):
        columns = slice(chunk * 16, chunk * 16 + 16)
        differences = (sw[:, columns].astype(float) - full[:, columns].astype(float)).mean(axis=1)
        expected = stats.bootstrap(
            (differences,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
        )
        tolerance = 6 * expected.standard_error / np.sqrt(20_000) * 2  # a 2.5 % quantile is noisier than a mean
        assert found.difference[chunk] == pytest.approx(differences.mean(), rel=1e-9)
        assert found.difference_low[chunk] == pytest.approx(expected.confidence_interval.low, abs=tolerance)
        assert found.difference_high[chunk] == pytest.approx(expected.confidence_interval.high, abs=tolerance)


def test_above_one_where_full_is_better():
    full, sw = make()
    better = paired_bootstrap(full, (full + 0.5).astype(np.float32))
    assert (better.ratio_low > 1.6).all()
    assert better.ratio == pytest.approx(np.exp(0.5), rel=1e-5)
    opposite = paired_bootstrap(sw, full)
    assert opposite.difference == pytest.approx(-paired_bootstrap(full, sw).difference)


def test_equal_arrays_have_no_interval():
    full, _ = make()
    found = paired_bootstrap(full, full)
    assert (found.ratio == 1).all()
    assert (found.ratio_low == 1).all()
    assert (found.ratio_high == 1).all()


def test_interval_covers_the_truth_as_often_as_it_says():
    """200 experiments at n = 64: the number of misses of a 95 % interval is between 2 and 22 with 99.9 % certainty."""
    generator = np.random.default_rng(5)
    full = np.zeros((64, 16 * 200), dtype=np.float32)
    per_sequence = generator.normal(0.3, 1.0, (64, 200)).astype(np.float32)
    found = paired_bootstrap(full, np.repeat(per_sequence, 16, axis=1), num_resamples=2000)
    misses = int(((found.difference_low > 0.3) | (found.difference_high < 0.3)).sum())
    assert 2 <= misses <= 24


def test_depends_on_the_seed_and_not_on_threads():
    script = (
        "import numpy as np; from tests.evaluate.test_bootstrap import make; "
        "from tttkit.evaluate import paired_bootstrap; found = paired_bootstrap(*make(), num_resamples=500, seed=7);"
        "print(found.difference_low.tobytes().hex(), found.difference_high.tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "RAYON_NUM_THREADS": threads}, check=True,
            capture_output=True, text=True,
        ).stdout
        for threads in ("1", "2", "3")
    }  # fmt: skip
    assert len(outputs) == 1
    here = paired_bootstrap(*make(), num_resamples=500, seed=8)
    assert here.difference_low.tobytes().hex() not in outputs.pop()


def test_unknown_chunks_stay_unknown():
    full, sw = make()
    sw[3, 20] = np.nan
    found = paired_bootstrap(full, sw, num_resamples=200)
    assert np.isnan(found.ratio).tolist() == [False, True, False]
    assert np.isnan(found.ratio_low).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"nll_sw": np.zeros((3, 48), np.float32)}, ValueError, "must have one shape"),
        ({"nll_full": np.zeros((48, 48))}, TypeError, "nll_full must be float32"),
        ({"num_resamples": 0}, ValueError, "num_resamples must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be in"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    full, sw = make()
    with pytest.raises(error, match=message):
        paired_bootstrap(**{"nll_full": full, "nll_sw": sw, **change})
