"""Runs with figures but no NLL by sequence, like the earlier system's: crossover by scatter, gap by a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tttkit.analyze.record import Record, RecordedEvaluation
from tttkit.analyze.training import crossover_step, generalisation_gap
from tttkit.results.summary import Summary

LABELS = (1, 2, 5, 10, 20)
COUNT = 501


def record(full, windowed=None):
    """Make a run from log perplexities, (evaluations, labels) each; unknown ones are NaN."""
    evaluations = []
    for index, row in enumerate(full):
        summary = {"step": 200 * index, "tokens_seen": 204_800 * index}
        for column, multiple in enumerate(LABELS):
            for name, values in (("ttt", row), ("sw", full[index] if windowed is None else windowed[index])):
                value = float(np.exp(values[column]))
                summary[f"{name}_ppl_at_{multiple}xW"] = None if np.isnan(value) else value
        evaluations.append(RecordedEvaluation(summary=Summary(summary), directory=Path("none")))
    return Record(
        name="bare", path=Path("none"), is_legacy=True, model=None, window=64, metadata={},
        evaluations=tuple(evaluations), metrics=[], unknown=(),
    )  # fmt: skip


def noise(generator, count=COUNT, correlation=0.4):
    """Make noise of each label, (evaluations, labels), with correlated neighbors along training."""
    own = generator.normal(0, 0.05, (count, len(LABELS)))
    for index in range(1, count):
        own[index] += correlation * own[index - 1]
    return own


def test_ratios_that_only_scatter_have_no_crossover():
    """Search 60 runs of the earlier study's length, without a difference, in 20 blocks of 4 labels each."""
    verdicts = []
    for seed in range(60):
        generator = np.random.default_rng([31, seed])
        verdicts.append(crossover_step(record(noise(generator) + 4, noise(generator) + 4)).verdict)
    assert sum(verdict != "none" for verdict in verdicts) < 3


@pytest.mark.parametrize(
    ("effect", "verdict", "where"),
    [
        (lambda share: 0.1 if share < 0.5 else -0.1, "persistent", (40_000, 60_000)),
        (lambda share: -0.1 if 0.4 < share < 0.6 else 0.1, "excursion", (30_000, 70_000)),
        (lambda _: 0.1, "none", None),
    ],
)
def test_a_planted_change_is_found_by_scatter(effect, verdict, where):
    generator = np.random.default_rng(5)
    full = noise(generator) + 4
    shift = np.array([effect(index / COUNT) for index in range(COUNT)])
    finding = crossover_step(record(full, full + noise(generator) + shift[:, None]))
    assert finding.verdict == verdict
    assert {row["crossover"] for row in finding.rows} == {verdict}
    if where is not None:
        texts = [row["between_steps"].replace(",", "").replace(";", " …").split(" … ") for row in finding.rows]
        assert all(where[0] <= int(step) <= where[1] for text in texts for step in text)


def test_labels_with_few_known_figures_are_left_out():
    """Result files have nulls and zeros, and a label with too few evaluations shows nothing."""
    full = noise(np.random.default_rng(6)) + 4
    full[:, 1] = np.nan  # 2 x W: never known
    full[:-99, 2] = np.nan  # 5 x W: known at 99 evaluations, one less than 20 blocks of 5 need
    full[:-100, 3] = np.nan  # 10 x W: known at 100, the last fifth of the run
    finding = crossover_step(record(full, full + 0.1))
    assert [row["position"] for row in finding.rows] == ["10 x W", "20 x W"]
    assert "501 evaluations" in finding.evidence
    full[:-99] = np.nan
    assert crossover_step(record(full, full + 0.1)).verdict == "unknown"


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_a_gap_that_only_scatters_has_no_trend(correlation):
    """Fewer than 5 % of 200 runs with a constant gap may show a trend; without correlation, at any of four positions.

    If points were taken as independent, 8 of 100 would show a trend at one position at a correlation of 0.4.
    """
    answers, anywhere = [], []
    for seed in range(200):
        finding = generalisation_gap(record(noise(np.random.default_rng([37, seed]), 51, correlation) + 4))
        answers.append(finding.verdict != "steady or undecided")
        anywhere.append(any(row["trend"] != "steady or undecided" for row in finding.rows))
    assert sum(answers) < 0.05 * len(answers)
    assert correlation or sum(anywhere) < 0.05 * len(anywhere)
