from __future__ import annotations

import json

import pytest

from tttkit.run.threads import ThreadChoice, describe_threads, thread_counts


def test_a_choice_survives_json():
    choice = ThreadChoice(num_threads=2, why="measured", tokens_per_second={16: 50.0, 2: 6287.1, 1: 4318.2})
    assert ThreadChoice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (
            ThreadChoice(num_threads=2, why="measured", tokens_per_second={16: 50.0, 2: 6287.1, 1: 4318.2}),
            "2 threads (measured; tokens/s: 4,318 with 1, 6,287 with 2, 50 with 16)",
        ),
        (ThreadChoice(num_threads=1, why="OMP_NUM_THREADS"), "1 thread (OMP_NUM_THREADS)"),
    ],
)
def test_the_line_of_text(choice, text):
    assert describe_threads(choice.to_dict()) == text


def test_thread_counts_are_all_cores_half_of_them_down_to_one():
    assert thread_counts(1) == [1]
    assert thread_counts(2) == [2, 1]
    assert thread_counts(12) == [12, 6, 3, 1]
