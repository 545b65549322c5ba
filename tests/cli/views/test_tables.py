"""The table of an evaluation names a winner only by the rule of the protocol."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from tttkit.results.summary import Summary
from tttkit_cli.console import print_table
from tttkit_cli.views.tables import evaluation_table

PREFIXES = {"sw": "", "sw_aligned": "sw_aligned_", "reset": "reset_"}


def last_cell(intervals, documents=None, num_documents=64) -> str:
    summary = {"step": 1, "ttt_ppl_at_2xW": 10.0, "num_documents": num_documents}
    for which, bounds in (("ci", intervals), ("document_ci", documents or {})):
        for context, (low, high) in bounds.items():
            prefix = PREFIXES[context]
            summary |= {f"{prefix}ratio_{which}_low_at_2xW": low, f"{prefix}ratio_{which}_high_at_2xW": high}
            summary.setdefault(f"{prefix}ratio_at_2xW", (low + high) / 2)
    shown = io.StringIO()
    Console(file=shown, width=200).print(evaluation_table(Summary(summary)))
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


def test_documents_must_agree_if_there_are_ten():
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
        (40, ["at", "full", "sw", "SW/full"]),
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
    print_table(evaluation_table(Summary(summary), width=columns), Console(file=shown, width=columns or 200))
    lines = shown.getvalue().splitlines()
    (head,) = [line for line in lines if "┃" in line]
    assert [cell.strip() for cell in head.strip("┃").split("┃")] == heads
    assert max(len(line.rstrip()) for line in lines) <= (columns or 200)
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == 5, "one line each"
    figure = "2,098.7" if columns == 40 else "2,098.66"
    assert all(line.count(f" {figure} ") == len(set(heads) & {"full", *PREFIXES}) for line in rows)


def wide_table() -> Table:
    table = Table(title="figures", title_justify="left")
    for head in ("run", "context"):
        table.add_column(head)
    for number in range(6):
        table.add_column(f"figure {number}", justify="right")
    table.add_column("verdict")
    for run in ("ttt-linear", "transformer"):
        figures = (f"{1000 * number + len(run)}.5" for number in range(6))
        table.add_row(run, "sw_aligned", *figures, f"full of {run} better", end_section=True)
    return table


@pytest.mark.parametrize(("columns", "parts"), [(200, 1), (80, 2), (40, 7), (None, 1)])
def test_a_wide_table_is_shown_in_parts_that_fit(columns, parts):
    """Each part names its rows, and every figure is there once and complete. Piped lines may have any length."""
    shown = io.StringIO()
    console = Console(file=shown, width=columns or 30, force_terminal=columns is not None, color_system=None)
    print_table(wide_table(), console, num_keys=2)
    lines = shown.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("┏")]) == parts
    assert len([line for line in lines if "run" in line and "context" in line]) == parts
    assert shown.getvalue().count("figures") == 1, "the title is printed once"
    for run in ("ttt-linear", "transformer"):
        for number in range(6):
            assert shown.getvalue().count(f" {1000 * number + len(run)}.5 ") == 1
    if columns:
        assert max(len(line) for line in lines) <= columns


def test_long_words_are_broken_before_figures_are():
    table = Table()
    table.add_column("run")
    table.add_column("figure", justify="right")
    table.add_column("length_generalization_study_of_w64", justify="right")
    table.add_column("verdict")
    table.add_row("length_generalization_study_of_the_whole_corpus", "123,456.78", "0.5", "no difference was found")
    shown = io.StringIO()
    print_table(table, Console(file=shown, width=40, force_terminal=True, color_system=None))
    assert "123,456.78 │" in shown.getvalue()
    assert "┃ run" in shown.getvalue()
    assert max(len(line) for line in shown.getvalue().splitlines()) <= 40
