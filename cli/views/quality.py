"""Tables of `tttkit quality`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from tttkit.results.quality import COLUMNS, METRICS, shown

if TYPE_CHECKING:
    from tttkit.results.quality import Quality

_KEYS = ("model", "minus", "prompt", "method")


def quality_table(name: str, quality: Quality) -> Table:
    """Return a row per length of the prompt and method, and one for the real text."""
    count = quality.values.get("num_prompts")
    table = Table(title=f"{escape(name)}: n = {count} prompts", title_justify="left")
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if index > 1 else "left")
    for row in quality.table_rows():
        table.add_row(*(row[column] for column in COLUMNS))
    return table


def differences_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the paired differences to the first model, perplexity as a ratio."""
    table = Table(title="differences, paired by prompt; perplexity as a ratio", title_justify="left")
    for column in (*_KEYS, *METRICS.values()):
        table.add_column(column, justify="left" if column in _KEYS else "right")
    for row in rows:
        texts = [shown(name, row["differences"].get(name), ratio=True) for name in METRICS]
        table.add_row(*(escape(str(row[key])) for key in _KEYS), *texts)
    return table
