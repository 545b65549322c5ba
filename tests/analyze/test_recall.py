"""Differences between models in recall, paired by example, with intervals over examples and over documents."""

from __future__ import annotations

import numpy as np
import pytest

from tttkit.analyze.intervals import bootstrap, over_groups
from tttkit.analyze.recall import recall_differences
from tttkit.results.recall import SECOND_COPY, Recall

DOCUMENTS = [0, 0, 0, 1, 1, 2, 3, 3]


def second_copy(drops, distances=(0, 64), **facts):
    rows = [{"distance": distance} for distance in distances]
    same = {"task": SECOND_COPY, "window": 16, "seed": 0, "num_examples": len(drops), "documents": DOCUMENTS}
    return Recall({**same, "rows": rows, "drops": drops.tolist(), **facts})


def drops(seed, columns=2):
    return np.random.default_rng(seed).normal(size=(len(DOCUMENTS), columns))


def test_differences_are_paired_by_example_and_have_intervals_over_documents():
    first, other = drops(0), drops(1)
    found = recall_differences(second_copy(first), second_copy(other))
    examples, documents = bootstrap(other - first), over_groups(other - first, DOCUMENTS)
    assert [row.where for row in found] == ["distance 0", "distance 64"]
    assert [row.mean for row in found] == examples.observed.tolist()
    assert [(row.low, row.high) for row in found] == list(zip(examples.low, examples.high, strict=True))
    assert [row.document_low for row in found] == documents.low.tolist()
    assert [row.document_high for row in found] == documents.high.tolist()
    assert found[0].document_low != found[0].low


def test_results_of_earlier_versions_have_no_interval_over_documents():
    old = second_copy(drops(0), documents=[])
    assert [row.document_low for row in recall_differences(old, second_copy(drops(1)))] == [None, None]


def test_only_equal_examples_are_compared():
    first = second_copy(drops(0))
    assert recall_differences(first, second_copy(drops(1), seed=1)) == []
    assert recall_differences(first, second_copy(drops(1), distances=(0, 128))) == []
    shared = recall_differences(first, second_copy(drops(1), distances=(32, 64)))
    assert [row.where for row in shared] == ["distance 64"]
    np.testing.assert_allclose(shared[0].mean, (drops(1) - drops(0))[:, 1].mean())


@pytest.mark.parametrize("name", ["task", "split", "data_fingerprint", "window", "passage", "longest", "seed"])
def test_examples_about_text_are_equal_only_if_all_that_chooses_them_is(name):
    first = second_copy(drops(0))
    assert recall_differences(first, second_copy(drops(1), bos_id=5))
    assert recall_differences(first, second_copy(drops(1), **{name: "other"})) == []


@pytest.mark.parametrize("name", ["task", "vocab_size", "num_examples", "seed"])
def test_synthetic_examples_follow_from_the_seed_alone(name):
    row = {"length": 64, "size": 4, "context": "full"}
    values = {
        "task": "mqar",
        "vocab_size": 9,
        "num_examples": 2,
        "seed": 0,
        "rows": [row],
        "accuracies": [[0.0], [1.0]],
    }
    assert recall_differences(Recall(values), Recall({**values, "window": 8}))[0].where == "length 64, 4 items, full"
    assert recall_differences(Recall(values), Recall({**values, name: 7})) == []


def test_nll_and_share_found_are_compared_by_their_names():
    row = {"part": "passkey", "length": 64, "depth": 0.5}
    values = {"task": "passkey", "rows": [row], "nlls": [[3.0], [5.0]], "found": [[0.0], [0.0]]}
    other = {**values, "nlls": [[2.0], [2.0]], "found": [[1.0], [0.0]]}
    found = [(each.where, each.mean) for each in recall_differences(Recall(values), Recall(other))]
    assert found == [("depth 0.50, length 64, NLL", -2.0), ("depth 0.50, length 64, found", 0.5)]
