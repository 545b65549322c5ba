"""The figures behind the curves of the page come from the files, rounded and thinned."""

from __future__ import annotations

import json

import pytest

from tests.report.made_up import write_run
from tttkit.analyze.curves import load_curves
from tttkit.report.page.page_data import page_data


def data_of(run):
    return page_data(load_curves(run), run.read_summaries(), run.read_metrics(), None, [])


def test_the_curves_come_from_the_run(tmp_path):
    run = write_run(tmp_path / "run", 3)
    data = data_of(run)
    summary = run.read_summaries()[1]
    evaluation = data["evaluations"][1]
    at = evaluation["ends"].index(1280)
    assert (data["window"], data["labels"], evaluation["step"]) == (64, [1, 2, 5, 10, 20], 100)
    assert evaluation["ppl"]["full"][at] == pytest.approx(summary.perplexity("full", 20), rel=1e-4)
    assert evaluation["ratio"]["sw"][at] == pytest.approx(summary.ratio("sw", 20).value, rel=1e-4)
    assert evaluation["ppl"]["sw"][at - 1] is None, "not computed there"
    assert data["training"]["step"][-1] == 299
    assert [series["name"] for series in data["evolution"]] == ["1 x W", "2 x W", "5 x W", "10 x W", "20 x W"]


def test_losses_are_thinned_and_smoothed(tmp_path):
    """Some hundreds of 5,000 losses that jump between 2 and 4 are kept, and their average stays near 3."""
    run = write_run(tmp_path / "run", 1)
    records = [{"step": step, "loss": 2 + 2 * (step % 2), "num_skipped": 0} for step in range(1, 5001)]
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    training = data_of(run)["training"]
    assert (training["step"][0], training["step"][-1], len(training["step"])) == (1, 5000, 600)
    assert set(training["loss"]) == {2.0, 4.0}
    assert all(2.9 < value < 3.1 for value in training["smooth"][100:])
