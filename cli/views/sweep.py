"""Tables of a study: one row a setting, and one row an effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from tttkit.sweep.results import shown
from tttkit_cli.console import print_table

if TYPE_CHECKING:
    from tttkit.sweep.results import Effect, Row, Trend
    from tttkit.sweep.study import Study


def print_rows(study: Study, rows: list[Row]) -> None:
    """Print the settings, the best first, with the objective over seeds."""
    table = Table(title=f"{escape(study.objective)}: geometric mean over seeds", title_justify="left")
    for key in study.vary:
        table.add_column(escape(key))
    table.add_column("mean", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("runs")
    for row in rows:
        mean = "-" if row.mean is None else f"{row.mean:,.2f}"
        values = [_text(row.setting[key]) for key in study.vary]
        table.add_row(*values, mean, _interval(row.interval), row.summary)
    print_table(table, num_keys=max(len(study.vary), 1))


def print_effects(effects: list[Effect]) -> None:
    """Print what each value does to the objective, everything else equal."""
    if not effects:
        return
    table = Table(title="effect of each value, everything else equal", title_justify="left")
    for head in ("factor", "value", "compared with"):
        table.add_column(head)
    for head in ("ratio", "95 % interval", "pairs"):
        table.add_column(head, justify="right")
    for each in effects:
        table.add_row(
            escape(each.factor), _text(each.value), _text(each.reference), f"{each.ratio:.3f}",
            _interval(each.interval, digits=3), str(each.pairs),
        )  # fmt: skip
    print_table(table, num_keys=2)


def print_trends(trends: list[Trend]) -> None:
    """Print how the objective changes with the factors that were chosen from a range."""
    if not trends:
        return
    table = Table(title="trend of each range, over all settings", title_justify="left")
    table.add_column("factor")
    for head in ("rank correlation", "95 % interval", "settings"):
        table.add_column(head, justify="right")
    for each in trends:
        interval = _interval(each.interval, digits=2)
        table.add_row(escape(each.factor), f"{each.correlation:.2f}", interval, str(each.settings))
    print_table(table, num_keys=1)


def _text(value: Any) -> str:
    return escape(shown(value))


def _interval(interval: tuple[float, float] | None, digits: int = 2) -> str:
    return "-" if interval is None else f"[{interval[0]:,.{digits}f}, {interval[1]:,.{digits}f}]"
