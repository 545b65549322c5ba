"""Table of `tttkit recall`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tttkit.results.recall import Recall, TaskRecall


def recall_table(results: Sequence[tuple[str, Recall]]) -> Table:
    """Return a row per model and distance."""
    table = Table(title="second-copy: NLL of a passage in nats, and its drop the second time", title_justify="left")
    table.add_column("model")
    for head in ("distance", "first copy", "second copy", "drop", "95 % interval"):
        table.add_column(head, justify="right")
    for name, result in results:
        for row in result.rows:
            figures = (f"{row.distance:,}", f"{row.first:.3f}", f"{row.second:.3f}", f"{row.drop:.3f}")
            table.add_row(escape(name), *figures, f"{row.low:.3f} … {row.high:.3f}")
    return table


def accuracy_table(results: Sequence[tuple[str, TaskRecall]]) -> Table:
    """Return a row per model, length and size, with the paired difference from the first model."""
    from tttkit.recall.synthetic import difference

    table = Table(title=f"{results[0][1].facts['task']}: share of right answers", title_justify="left")
    table.add_column("model")
    heads = ("length", "to remember", "accuracy", "95 % interval", "all right")
    for head in (*heads, "minus the first model") if len(results) > 1 else heads:
        table.add_column(head, justify="right")
    for index, (name, result) in enumerate(results):
        differences = {row[0]: row[1:] for row in difference(results[0][1], result)} if index else {}
        for row in result.rows:
            cells = [
                f"{row.length:,}", "all" if row.size is None else f"{row.size}", f"{row.accuracy:.3f}",
                f"{row.low:.3f} … {row.high:.3f}", f"{row.exact:.3f}",
            ]  # fmt: skip
            if len(results) > 1:
                paired = differences.get(row.length) if row.size is None else None
                cells.append("" if paired is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*paired))
            table.add_row(escape(name), *cells)
    return table
