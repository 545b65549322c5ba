"""The table of an evaluation names a winner only by the rule of the protocol."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tttkit_cli.tables import evaluation_table

PREFIXES = {"sw": "", "sw_aligned": "sw_aligned_", "reset": "reset_"}


def last_cell(intervals, documents=None, num_documents=64) -> str:
    summary = {"step": 1, "ttt_ppl_at_2xW": 10.0, "num_documents": num_documents}
    for which, bounds in (("ci", intervals), ("document_ci", documents or {})):
        for context, (low, high) in bounds.items():
            prefix = PREFIXES[context]
            summary |= {f"{prefix}ratio_{which}_low_at_2xW": low, f"{prefix}ratio_{which}_high_at_2xW": high}
            summary.setdefault(f"{prefix}ratio_at_2xW", (low + high) / 2)
    shown = io.StringIO()
    Console(file=shown, width=200).print(evaluation_table(summary))
    (row,) = [line for line in shown.getvalue().splitlines() if "2 x W" in line]
    return row.split("│")[-2].strip()


SURE = {"sw": (1.1, 1.2), "sw_aligned": (1.1, 1.2), "reset": (1.01, 1.2)}


@pytest.mark.parametrize(
    ("intervals", "winner"),
    [
        (SURE, "full"),
        ({**SURE, "reset": (0.99, 1.2)}, "no difference found"),
        ({"sw": (1.1, 1.2)}, "no difference found"),
        ({"sw": (1.1, 1.2), "sw_aligned": (0.9, 1.2), "reset": (0.8, 0.9)}, "reset"),
        ({}, "-"),
    ],
)
def test_winner(intervals, winner):
    assert last_cell(intervals) == winner


def test_documents_must_agree_where_there_are_ten():
    unsure = {**SURE, "sw": (0.9, 1.4)}
    assert last_cell(SURE, unsure, num_documents=10) == "no difference found"
    assert last_cell(SURE, unsure, num_documents=9) == "full"
    assert last_cell(SURE, SURE, num_documents=10) == "full"
