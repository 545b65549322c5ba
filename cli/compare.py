"""`tttkit compare`: runs side by side at equal tokens, with their differences and the figures that are refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tttkit.run.directory import RunDirectory, runs_at
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, out, print_json, print_table


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="RUN directories, or directories of studies; the first run is the reference.", metavar="RUN…"
        ),
    ],
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Compare runs at equal tokens and at the end; figures whose protocols differ are refused, with the reason.

    Example: `tttkit compare runs/ttt runs/sw runs/transformer`
    """
    from tttkit.analyze.compare import NO_EQUAL_TOKENS
    from tttkit.analyze.compare import compare as compare_records
    from tttkit.analyze.record import load

    comparison = compare_records([load(run) for path in runs for run in _evaluated_runs(path)])
    if json_output:
        print_json(json_safe(comparison.to_dict()))
        return
    for row in comparison.protocol_differences:
        reason = f"({row['setting']}: {row['because']})"
        text = f"refused: {row['refused']} {reason}" if row["refused"] else f"different settings {reason}"
        err.print(f"[warning]{escape(text)}[/]", soft_wrap=True)
    if not comparison.equal_tokens:
        err.print(f"[warning]{escape(NO_EQUAL_TOKENS)}[/]", soft_wrap=True)
    if comparison.equal_tokens == comparison.end:
        _print("at equal tokens, which is the end of each run", comparison.end)
    else:
        _print("at equal tokens", comparison.equal_tokens)
        _print("at the end", comparison.end)
    _print(
        "verdicts at equal tokens (95 %)" if comparison.equal_tokens else "verdicts at the end (95 %)",
        comparison.verdicts,
    )
    _print(f"ratio to the full context of {comparison.runs[0]}, paired by sequence, 95 %", comparison.paired)
    _print(
        f"best models, evaluated in full: ratio to the full context of {comparison.runs[0]}, paired by sequence, 95 %",
        comparison.best_models,
    )
    _print("weights that learn from the text that was scored, 95 %", comparison.dynamic)
    _print("over seeds: geometric mean, 95 %", comparison.seeds)
    _print("protocols that differ", comparison.protocol_differences)
    _print("settings that differ", comparison.config_differences)


def _evaluated_runs(path: Path) -> list[RunDirectory]:
    """Return the run at `path`, or the runs of the study there that have an evaluation and were not pruned."""
    from tttkit.health.lifecycle import read_lifecycle
    from tttkit.run.saved import PRUNED

    found = runs_at(path)
    if found[0].path == path:
        return found
    kept = []
    for run in found:
        lifecycle = read_lifecycle(run, run.read_metadata()) if run.pruned.exists() else None
        if lifecycle and lifecycle.state == PRUNED:
            err.print(f"[warning]{escape(f'left out: {run.path.name}, {lifecycle.reason}')}[/]", soft_wrap=True)
        elif run.summaries.exists():
            kept.append(run)
    return kept


def _print(title: str, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    if not rows:
        return
    table = Table(title=escape(title), title_justify="left")
    heads = list(dict.fromkeys(key for row in rows for key, value in row.items() if value is not None))
    for head in heads:
        numeric = all(isinstance(row.get(head), int | float | None) for row in rows)
        table.add_column(escape(head), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(head, row.get(head)) for head in heads))
    print_table(table, num_keys=2 if heads[:2] == ["run", "context"] else 1)
    out.print()


def _cell(head: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        if 0 < abs(value) < 0.01:
            return f"{value:.3g}"  # settings such as a learning rate
        return f"{value:.4f}" if head.endswith("bits/byte") else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else escape(str(value))
