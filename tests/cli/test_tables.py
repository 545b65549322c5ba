"""The table of an evaluation names a winner only by the rule of the protocol."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tttkit_cli.tables import evaluation_table

PREFIXES = {"sw": "", "sw_aligned": "sw_aligned_", "reset": "reset_"}


def last_cell(intervals) -> str:
    summary = {"step": 1, "ttt_ppl_at_2xW": 10.0}
    for context, (low, high) in intervals.items():
        prefix = PREFIXES[context]
        summary |= {f"{prefix}ratio_ci_low_at_2xW": low, f"{prefix}ratio_ci_high_at_2xW": high}
    shown = io.StringIO()
    Console(file=shown, width=200).print(evaluation_table(summary))
    (row,) = [line for line in shown.getvalue().splitlines() if "2 x W" in line]
    return row.split("│")[-2].strip()


@pytest.mark.parametrize(
    ("intervals", "winner"),
    [
        ({"sw": (1.1, 1.2), "sw_aligned": (1.1, 1.2), "reset": (1.01, 1.2)}, "full"),
        ({"sw": (1.1, 1.2), "sw_aligned": (1.1, 1.2), "reset": (0.99, 1.2)}, "no difference found"),
        ({"sw": (1.1, 1.2)}, "no difference found"),
        ({"sw": (1.1, 1.2), "sw_aligned": (0.9, 1.2), "reset": (0.8, 0.9)}, "reset"),
        ({}, "-"),
    ],
)
def test_winner(intervals, winner):
    assert last_cell(intervals) == winner
