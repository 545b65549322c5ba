"""Tables of `tttkit recall`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tttkit.results.recall import Recall

_LEFT = ("context", "question")


def recall_table(results: Sequence[tuple[str, Recall]]) -> Table:
    """Return a row per model and distance, or per model, length, number of items and context."""
    first = results[0][1]
    table = _table(f"{first.task}: {_what(first)}")
    rows = [(name, row) for name, result in results for row in result.table_rows()]
    for head in rows[0][1]:
        table.add_column(head, justify="left" if head in _LEFT else "right")
    for name, row in rows:
        table.add_row(escape(name), *row.values())
    return table


def _what(recall: Recall) -> str:
    if recall.is_second_copy:
        return "NLL of a passage in nats, and its drop the second time"
    if recall.is_about_text:
        return "NLL of a right answer in nats, and share of right answers found by greedy decoding"
    return "share of answers given"


def left_out_lines(results: Sequence[tuple[str, Recall]]) -> list[str]:
    """Return a line about the settings that were left out, one for all models that lack the same."""
    from tttkit.analyze.phrases import listed

    names: dict[str, list[str]] = {}
    for name, result in results:
        parts = [f"{part} ({reason})" for part, reason in result.left_out.items()]
        if parts:
            names.setdefault("; ".join(parts), []).append(name)
    return [f"{listed(lacking)}, left out: {text}" for text, lacking in names.items()]


def differences_table(results: Sequence[tuple[str, Recall]]) -> tuple[Table, list[str]]:
    """Return by row how much more the other models remember than the first, paired by example.

    The second value names the models that have not read the same examples.
    """
    from tttkit.analyze.recall import recall_differences

    first = results[0][0]
    table = _table(f"difference from {escape(first)}, paired by example")
    compared = {name: recall_differences(results[0][1], result) for name, result in results[1:]}
    rows = [(name, row) for name, differences in compared.items() for row in differences]
    has_documents = any(row.document_low is not None for _, row in rows)
    for head in ("at", "difference", "95 % interval", *(("over documents",) if has_documents else ())):
        table.add_column(head, justify="left" if head == "at" else "right")
    for name, row in rows:
        cells = [f"{row.mean:+.3f}", f"{row.low:+.3f} … {row.high:+.3f}"]
        if row.document_low is not None:
            cells.append(f"{row.document_low:+.3f} … {row.document_high:+.3f}")
        table.add_row(escape(name), row.where, *cells)
    return table, [name for name, differences in compared.items() if not differences]


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    return table
