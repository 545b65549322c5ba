"""Training loss and the comparison of runs: axes that show what a reader compares."""

from __future__ import annotations

import pytest

from tests.report.made_up import texts
from tttkit.report.figures.style import Scales
from tttkit.report.figures.training import plot_comparison, plot_training
from tttkit.results.summary import Summary


def evaluations(last):
    """Make evaluations of a model that starts untrained and learns down to `last`."""
    values = ((100_000 * index, value) for index, value in enumerate((50_000.0, 300.0, last)))
    return [
        Summary({"tokens_seen": tokens, "selection_ppl": value, "ttt_ppl_at_1xW": value, "ttt_ppl_at_20xW": value})
        for tokens, value in values
    ]


@pytest.mark.parametrize("log_y", [True, False])
def test_runs_are_named_at_their_ends_on_an_axis_of_trained_models(tmp_path, log_y):
    runs = [("ttt", evaluations(210.0)), ("a-name-that-is-much-too-long-for-a-figure", evaluations(150.0))]
    words = texts(plot_comparison(runs, tmp_path / "comparison.svg", Scales(log_y=log_y)))
    assert words.count("ttt") == words.count("a-name-tha…or-a-figure") == 2, "once in each panel"
    assert "200" in words
    assert not {"500", "1,000", "10,000", "50,000"} & set(words)


def test_runs_that_were_not_trained_yet_are_drawn(tmp_path):
    runs = [(name, evaluations(200.0)[:1]) for name in ("one", "other")]
    assert "one" in texts(plot_comparison(runs, tmp_path / "comparison.svg"))


@pytest.mark.parametrize(
    ("rates", "ticks"), [([0.0, 0.003, 0.001], {"0", "0.003"}), ([0.0, 0.0], {"0"}), (["NaN"], {"0"})]
)
def test_the_peak_learning_rate_is_labeled(tmp_path, rates, ticks):
    metrics = [{"step": step, "loss": 5.0, "lr": rate} for step, rate in enumerate(rates, start=1)]
    assert ticks <= set(texts(plot_training(metrics, [], tmp_path / "loss.svg")))
