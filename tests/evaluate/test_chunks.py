"""Chunk figures against the golden file of the earlier system and against plain numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttkit.evaluate import chunk_perplexity

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = json.loads((GOLDEN / "chunk_ppl.json").read_text())
ARRAYS = np.load(GOLDEN / "chunk_ppl.npz")


@pytest.mark.parametrize("index", range(len(CASES)))
@pytest.mark.parametrize(("array", "key"), [("full", "ttt"), ("sw", "sw")])
def test_the_earlier_systems_figures_are_reproduced(index, array, key):
    case = CASES[index]
    chunks = chunk_perplexity(
        ARRAYS[f"{array}_{index}"], case["W"], case["K"], case["S"], "median", legacy=True, x_axis=case["x_axis"]
    )
    assert chunks.centers.tolist() == case["centers"]
    assert chunks.ends.tolist() == case["ends"]
    np.testing.assert_allclose(chunks.perplexity, case[f"ppl_{key}"], rtol=5e-5)
    multiples = [int(name.split("_")[-1][:-2]) for name in case["summary"] if name.startswith("x_pos")]
    assert multiples
    for multiple in multiples:
        perplexity, center = chunks.at_multiple(multiple)
        assert center == case["summary"][f"x_pos_at_{multiple}xW"]
        assert perplexity == pytest.approx(case["summary"][f"{key}_ppl_at_{multiple}xW"], rel=5e-5)


@given(data=st.data())
def test_against_plain_numpy(data):
    num_sequences, num_positions = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 60))
    size, stride = data.draw(st.integers(1, num_positions)), data.draw(st.integers(1, 70))
    aggregate = data.draw(st.sampled_from(["mean", "median"]))
    nll = np.random.default_rng(data.draw(st.integers(0, 99))).gamma(2, 3, (num_sequences, num_positions))
    nll = nll.astype(np.float32)
    chunks = chunk_perplexity(nll, 8, size, stride, aggregate)
    starts = list(range(0, num_positions - size + 1, stride))
    means = np.array([nll[:, start : start + size].mean(axis=1, dtype=np.float64) for start in starts])
    lower_middle = np.sort(means, axis=1)[:, (num_sequences - 1) // 2]
    expected = means.mean(axis=1) if aggregate == "mean" else lower_middle
    np.testing.assert_allclose(chunks.mean_nll, expected, rtol=1e-12)
    np.testing.assert_allclose(chunks.perplexity, np.exp(expected), rtol=1e-11)
    assert chunks.ends.tolist() == [start + size for start in starts]
    assert chunks.centers.tolist() == [start + size // 2 for start in starts]
    assert chunks.num_tokens.tolist() == [num_sequences * size] * len(starts)


def test_the_protocols_labels_are_the_last_chunks_that_end_by_then():
    nll = np.tile(np.repeat(np.log(np.arange(1, 81)), 16), (2, 1)).astype(np.float32)
    chunks = chunk_perplexity(nll, window=64, chunk_size=16, chunk_stride=16)
    assert len(chunks.ends) == 80
    for multiple in (1, 2, 5, 10, 20):
        perplexity, center = chunks.at_multiple(multiple)
        assert center == 64 * multiple - 8
        assert chunks.ends[chunks.index_at_multiple(multiple)] == 64 * multiple
        assert perplexity == pytest.approx(4 * multiple)


def test_a_label_never_has_more_context_than_it_names():
    chunks = chunk_perplexity(np.ones((1, 300), dtype=np.float32), window=50, chunk_size=16, chunk_stride=12)
    assert chunks.ends[chunks.index_at_multiple(1)] == 40
    assert chunks.ends[chunks.index_at_multiple(5)] == 244
    with pytest.raises(ValueError, match="10 x W = 500 is outside"):
        chunks.at_multiple(10)


def test_a_label_before_the_first_chunk_is_an_error():
    chunks = chunk_perplexity(np.ones((1, 64), dtype=np.float32), window=8, chunk_size=16)
    with pytest.raises(ValueError, match="1 x W = 8 is outside"):
        chunks.at_multiple(1)


@pytest.mark.parametrize("aggregate", ["mean", "median"])
def test_positions_that_were_not_computed_make_their_chunks_unknown_and_no_others(aggregate):
    nll = np.full((3, 40), 2.0, dtype=np.float32)
    nll[:, 17] = np.nan
    chunks = chunk_perplexity(nll, 8, 8, 8, aggregate)
    assert np.isnan(chunks.perplexity).tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(chunks.perplexity[[0, 1, 3, 4]], np.exp(2))


def test_sums_are_exact_where_float32_would_drift():
    nll = np.full((64, 4096), 0.1, dtype=np.float32)
    nll[:, 0] = 1e6
    expected = (1e6 + 4095 * float(np.float32(0.1))) / 4096
    assert chunk_perplexity(nll, 64, 4096).mean_nll[0] == pytest.approx(expected, rel=1e-13)


def test_a_hopeless_model_has_an_infinite_perplexity_without_a_warning():
    assert chunk_perplexity(np.full((1, 16), 800, dtype=np.float32)).perplexity.tolist() == [np.inf]


NLL = np.ones((2, 32), dtype=np.float32)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "nll", {"nll": NLL.tolist()}),
        (TypeError, "nll", {"nll": NLL.astype(np.float64)}),
        (ValueError, "nll", {"nll": NLL[0]}),
        (ValueError, "nll", {"nll": NLL[:0]}),
        (ValueError, "window", {"window": 0}),
        (ValueError, "chunk_size", {"chunk_size": 0}),
        (ValueError, "chunk_size 33", {"chunk_size": 33}),
        (TypeError, "chunk_size", {"chunk_size": 4.0}),
        (ValueError, "chunk_stride", {"chunk_stride": -1}),
        (ValueError, "aggregate", {"aggregate": "max"}),
        (ValueError, "x_axis", {"x_axis": "start"}),
    ],
)
def test_a_bad_argument_is_named(error, name, arguments):
    values = {"nll": NLL, **arguments}
    with pytest.raises(error, match=f"^{name} "):
        chunk_perplexity(values.pop("nll"), **values)


def test_a_view_that_is_not_contiguous_is_accepted():
    nll = np.random.default_rng(0).random((64, 8), dtype=np.float32)
    np.testing.assert_array_equal(chunk_perplexity(nll.T).mean_nll, chunk_perplexity(nll.T.copy()).mean_nll)
