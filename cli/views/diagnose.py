"""Table and cost of `tttkit diagnose`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from tttkit.results.diagnose import COLUMNS
from tttkit_cli.views.units import duration, size

if TYPE_CHECKING:
    from tttkit.diagnose.plan import Plan
    from tttkit.results.diagnose import Diagnosis

_NAMES = {
    "nll": "perplexity", "reference": "states of training", "state": "states of the texts",
    "memory": "effective memory", "key_tokens": "key tokens",
}  # fmt: skip


def cost_of(plan: Plan) -> str:
    """Say how long a diagnosis takes at most, for what, and how much memory it needs."""
    parts = ", ".join(f"{_NAMES[name]} {duration(seconds)}" for name, seconds in plan.seconds.items() if seconds)
    return f"about {duration(plan.total_seconds)} ({parts}) and {size(plan.num_bytes)} of memory beyond the weights"


def diagnosis_table(name: str, diagnosis: Diagnosis) -> Table:
    """Return a row per label m x W."""
    table = Table(title=f"{escape(name)}: n = {diagnosis.values['num_sequences']} texts", title_justify="left")
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if index else "left")
    for row in diagnosis.table_rows():
        table.add_row(*(row[column] for column in COLUMNS))
    return table
