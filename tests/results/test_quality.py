"""Figures of quality as texts."""

from __future__ import annotations

import pytest

from tttkit.results.quality import Quality, shown


def test_a_small_negative_figure_is_shown_as_zero_without_a_sign():
    figure = {"value": -0.001, "low": -0.004, "high": 0.002}
    assert shown("rep_2", figure) == "0.00 [0.00, 0.00]"
    assert shown("rep_2", {**figure, "low": -0.006}) == "0.00 [-0.01, 0.00]"


def test_nll_is_shown_as_perplexity_and_a_difference_of_nll_as_a_ratio():
    figure = {"value": 0.0, "low": -0.1, "high": 0.1}
    assert shown("judge_nll", figure) == "1.0 [0.9, 1.1]"
    assert shown("judge_nll", figure, ratio=True) == "1.000 [0.905, 1.105]"
    assert shown("judge_nll", None) == "-"


@pytest.mark.parametrize("name", ["data_fingerprint", "split", "ends", "lengths", "max_tokens", "seed"])
def test_models_are_compared_only_if_they_continued_the_same_prompts_by_as_many_tokens(name):
    values = {"data_fingerprint": "x", "split": "validation", "ends": [9], "lengths": [8], "max_tokens": 12, "seed": 0}
    assert Quality(values).has_prompts_of(Quality({**values, "weights_sha256": "other"}))
    assert not Quality(values).has_prompts_of(Quality({**values, name: "other"}))
