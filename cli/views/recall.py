"""Table of `tttkit recall`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tttkit.results.recall import Recall


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
