"""The SOURCE task:NAME: each window of the prepared data holds one example, and bad names are refused."""

from __future__ import annotations

import numpy as np
import pytest

from tttkit.data import open_split, prepare_dataset
from tttkit.data.sources import parse_source
from tttkit.data.tasks import TASKS, VOCABULARY
from tttkit.errors import UsageError


def test_each_window_is_one_example(tmp_path):
    manifest = prepare_dataset(["task:mqar:32:1500"], tmp_path / "data", tokenizer="words", validation_fraction=0.1)
    assert (manifest.vocab_size, manifest.eos_id) == (VOCABULARY, 0)
    split = open_split(tmp_path / "data", "train")
    windows = np.asarray(split.tokens(0, split.num_tokens)).reshape(-1, 32)
    assert len(windows) + open_split(tmp_path / "data", "validation").num_documents == 1500
    assert (windows[:, -1] == 0).all()
    assert (windows[:, :-1] > 0).all()
    made = {tuple(row) for row in TASKS["mqar"](1000, 31, np.random.default_rng((0x7A5C, 0))).words.tolist()}
    assert sum(tuple(row) in made for row in windows[:, :-1].tolist()) > 850
    again = prepare_dataset(["task:mqar:32:1500"], tmp_path / "again", tokenizer="words", validation_fraction=0.1)
    assert again.fingerprint == manifest.fingerprint


@pytest.mark.parametrize("text", ["task:", "task:nothing", "task:mqar:x", "task:mqar:64:10:3"])
def test_an_unknown_task_is_refused_with_the_names_of_all(text):
    with pytest.raises(UsageError, match="names no task") as error:
        parse_source(text)
    assert "mqar, copy, selective-copy, induction" in error.value.hint


@pytest.mark.parametrize("text", ["task:copy:15", "task:copy:64:0"])
def test_examples_that_are_too_short_or_none_are_refused(text):
    with pytest.raises(UsageError, match="LENGTH must be at least 16 and COUNT at least 1"):
        parse_source(text)
