from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.evaluate import chunk_perplexity

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "chunk_ppl"
CASES = json.loads(GOLDEN.with_suffix(".json").read_text())


@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_earlier_systems_figures_are_reproduced(index):
    case, arrays = CASES[index], np.load(GOLDEN.with_suffix(".npz"))
    for context, prefix in (("full", "ttt"), ("sw", "sw")):
        chunks = chunk_perplexity(
            arrays[f"{context}_{index}"], case["W"], case["K"], case["S"], "median", legacy=True, x_axis=case["x_axis"]
        )
        assert chunks.centers.tolist() == case["centers"]
        assert chunks.ends.tolist() == case["ends"]
        np.testing.assert_allclose(chunks.perplexity, case[f"ppl_{prefix}"], rtol=5e-5)
        labels = [key for key in case["summary"] if key.startswith(f"{prefix}_ppl_at_")]
        assert labels
        for key in labels:
            multiple = int(key.removeprefix(f"{prefix}_ppl_at_").removesuffix("xW"))
            perplexity, center = chunks.at_multiple(multiple)
            assert perplexity == pytest.approx(case["summary"][key], rel=5e-5)
            assert center == case["summary"].get(f"x_pos_at_{multiple}xW", center)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_equals_plain_numpy(data):
    rows, positions = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 80))
    size, stride = data.draw(st.integers(1, positions)), data.draw(st.integers(1, 30))
    seed, aggregate = data.draw(st.integers(0, 1000)), data.draw(st.sampled_from(["mean", "median"]))
    nll = np.random.default_rng(seed).exponential(4, (rows, positions)).astype(np.float32)
    chunks = chunk_perplexity(nll, 8, size, stride, aggregate)
    starts = range(0, positions - size + 1, stride)
    assert chunks.centers.tolist() == [start + size // 2 for start in starts]
    assert chunks.ends.tolist() == [start + size for start in starts]
    means = np.array([nll[:, start : start + size].astype(np.float64).mean(axis=1) for start in starts])
    expected = means.mean(axis=1) if aggregate == "mean" else np.sort(means, axis=1)[:, (rows - 1) // 2]
    np.testing.assert_allclose(chunks.mean_nll, expected, rtol=1e-12)
    np.testing.assert_array_equal(chunks.num_tokens, rows * size)


def test_labels_are_the_last_chunk_that_ends_by_then():
    nll = np.arange(1280, dtype=np.float32)[None] / 100
    chunks = chunk_perplexity(nll)
    assert [chunks.at_multiple(multiple)[1] for multiple in (1, 2, 5, 10, 20)] == [56, 120, 312, 632, 1272]
    assert chunks.at_multiple(20)[0] == pytest.approx(np.exp(nll[0, 1264:].astype(np.float64).mean()))
    with pytest.raises(ValueError, match="50 x W = 3200 is outside of the chunks, which end at 1280"):
        chunks.at_multiple(50)


def test_overflow_is_infinite_and_unknown_stays_unknown():
    nll = np.full((2, 32), 1000, dtype=np.float32)
    nll[0, 20] = np.nan
    assert np.isposinf(chunk_perplexity(nll, 16).perplexity[0])
    assert np.isnan(chunk_perplexity(nll, 16).perplexity[1])


@pytest.mark.parametrize(
    ("nll", "options", "error", "message"),
    [
        (np.zeros((2, 32)), {}, TypeError, "nll must be float32, got float64"),
        ([[1.0]], {}, TypeError, "nll must be a numpy array, got list"),
        (np.zeros(32, np.float32), {}, ValueError, r"nll must have shape .*, got \(32,\)"),
        (np.zeros((2, 32), np.float32), {"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
        (np.zeros((2, 32), np.float32), {"chunk_stride": 1.5}, TypeError, "chunk_stride must be a whole number"),
        (np.zeros((2, 32), np.float32), {"window": True}, TypeError, "window must be a whole number"),
        (np.zeros((2, 32), np.float32), {"aggregate": "mode"}, ValueError, "aggregate must be mean or median"),
        (np.zeros((2, 32), np.float32), {"chunk_size": 33}, ValueError, "33"),
    ],
)
def test_wrong_arguments_are_named(nll, options, error, message):
    with pytest.raises(error, match=message):
        chunk_perplexity(nll, **options)


def test_strided_arrays_are_taken():
    nll = np.random.default_rng(0).random((64, 6), dtype=np.float32)
    assert np.array_equal(chunk_perplexity(nll.T).mean_nll, chunk_perplexity(np.ascontiguousarray(nll.T)).mean_nll)
