"""Differences between models are those of the same prompt."""

from __future__ import annotations

from tttkit.quality.differences import differences, figure_of
from tttkit.results.quality import Quality


def quality(*values):
    cell = {"length": 8, "method": "greedy", "per_prompt": {"rep_2": list(values)}}
    return Quality({"window": 8, "cells": [cell]})


def test_the_interval_is_that_of_the_differences_at_each_prompt():
    (row,) = differences([("a", quality(0.0, 0.5, 1.0)), ("b", quality(1.0, 0.5, 0.25))])
    assert (row["model"], row["minus"], row["prompt"], row["method"]) == ("b", "a", "1 x W", "greedy")
    assert row["differences"] == {"rep_2": figure_of([1.0, 0.0, -0.75])}
