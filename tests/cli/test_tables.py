"""The table of an evaluation names a winner only by the rule of the protocol."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tttkit_cli.console import print_table
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
        ({**SURE, "reset": (0.99, 1.2)}, "no difference"),
        ({"sw": (1.1, 1.2)}, "no difference"),
        ({"sw": (1.1, 1.2), "sw_aligned": (0.9, 1.2), "reset": (0.8, 0.9)}, "reset"),
        ({}, "-"),
    ],
)
def test_winner(intervals, winner):
    assert last_cell(intervals) == winner


def test_documents_must_agree_where_there_are_ten():
    unsure = {**SURE, "sw": (0.9, 1.4)}
    assert last_cell(SURE, unsure, num_documents=10) == "no difference"
    assert last_cell(SURE, unsure, num_documents=9) == "full"
    assert last_cell(SURE, SURE, num_documents=10) == "full"


@pytest.mark.parametrize(
    ("columns", "heads"),
    [
        (None, ["position", "full", "sw", "sw_aligned", "reset", "SW/full [95 %]", "better (95 %)"]),
        (100, ["position", "full", "sw", "sw_aligned", "reset", "SW/full [95 %]", "better (95 %)"]),
        (80, ["position", "full", "sw", "reset", "SW/full", "better (95 %)"]),
        (50, ["position", "full", "sw", "SW/full"]),
    ],
)
def test_the_table_of_an_evaluation_fits_the_terminal(columns, heads):
    """An untrained model has the longest figures and no winner; nothing is broken by the terminal's edge."""
    summary = {"step": 0, "num_sequences": 64}
    for multiple in (1, 2, 5, 10, 20):
        label = f"{multiple}xW"
        summary |= {f"{prefix}ppl_at_{label}": 2098.66 for prefix in ("ttt_", "sw_", "sw_aligned_", "reset_")}
        for prefix in PREFIXES.values():
            summary |= {f"{prefix}ratio_{part}at_{label}": value
                        for part, value in (("", 1.0), ("ci_low_", 0.971), ("ci_high_", 1.043))}  # fmt: skip
    shown = io.StringIO()
    print_table(evaluation_table(summary, width=columns), Console(file=shown, width=columns or 200))
    lines = shown.getvalue().splitlines()
    (head,) = [line for line in lines if "position" in line]
    assert [cell.strip() for cell in head.strip("┃").split("┃")] == heads
    assert max(len(line.rstrip()) for line in lines) <= (columns or 200)
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == 5, "one line each"
    assert all(line.count("2,098.66") == len(set(heads) & {"full", *PREFIXES}) for line in rows)
