"""Tables of `tttkit quality`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from tttkit.results.quality import metrics_of, shown

if TYPE_CHECKING:
    from tttkit.results.quality import Quality

KEYS = ("model", "prompt", "method")
"""Columns that say what a difference is of."""


def quality_table(name: str, quality: Quality) -> Table:
    """Return a row per length of the prompt and method, and one for the real text."""
    count = quality.values.get("num_prompts")
    table = Table(title=f"{escape(name)}: n = {count} prompts", title_justify="left")
    rows = quality.table_rows()
    for column in rows[0]:
        table.add_column(column, justify="left" if column in KEYS else "right")
    for row in rows:
        table.add_row(*row.values())
    return table


def differences_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the paired differences from the first model, perplexity as a ratio."""
    metrics, first = metrics_of(rows), escape(rows[0]["minus"])
    ratio = "; perplexity as a ratio" if "judge_nll" in metrics else ""
    table = Table(title=f"difference from {first}, paired by prompt{ratio}", title_justify="left")
    for column in (*KEYS, *metrics.values()):
        table.add_column(column, justify="left" if column in KEYS else "right")
    for row in rows:
        texts = [shown(name, row["differences"].get(name), ratio=True) for name in metrics]
        table.add_row(*(escape(str(row[key])) for key in KEYS), *texts)
    return table
