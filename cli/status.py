"""`tttkit status`: what a run is doing. Answers in a blink: neither torch nor matplotlib is loaded."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tttkit.errors import UsageError
from tttkit.files import json_safe
from tttkit.report.status import RunStatus, read_status
from tttkit.rundir import RunDirectory, find_run

from .console import err, out, print_json, print_table, stdout_is_gone
from .tables import evaluation_table

_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {
    "running": "ok", "evaluating": "ok", "saving": "ok", "starting": "ok", "finished": "ok", "early-stopped": "ok",
    "preempted": "warning", "stalled": "warning", "unknown": "warning", "crashed": "error", "nan-stopped": "error",
    "disk-full": "error",
}  # fmt: skip
_CHECK_CODES = {"stalled": 3, "crashed": 4, "nan-stopped": 5}


def status(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="RUN directories (default: the newest under runs/).", metavar="RUN…")
    ] = None,
    curriculum_dir: Annotated[
        Path | None, typer.Option(help="Another name of RUN, for the earlier system's commands.", show_default=False)
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Look again and again until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between looks.")] = 180.0,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 3 when stalled, 4 when crashed, 5 when NaN-stopped.")
    ] = False,
) -> None:
    """Show state, progress, best result, patience and the last log lines of a run.

    Example: `tttkit status runs/quick --loop --interval 30`
    """
    if not interval > 0:  # nan too
        raise UsageError(f"--interval must be above 0 seconds, got {interval:g}")
    paths = [*(runs or []), *([curriculum_dir] if curriculum_dir else [])]
    directories = [find_run(path) for path in paths] or [find_run(None)]
    if loop:
        _loop(directories, interval, json_output=json_output)
        return
    found = [read_status(directory) for directory in directories]
    _show(found, json_output=json_output)
    if check:
        raise typer.Exit(max(_CHECK_CODES.get(item.state, 0) for item in found))


def _loop(directories: list[RunDirectory], interval: float, *, json_output: bool) -> None:
    """Look again and again. Ctrl-C ends it without an error, and so does a reader that has gone."""
    with suppress(KeyboardInterrupt):
        while not stdout_is_gone():
            found = [read_status(directory) for directory in directories]
            if out.is_terminal and not json_output:
                out.clear()
            _show(found, json_output=json_output)
            time.sleep(interval)


def _show(found: list[RunStatus], *, json_output: bool) -> None:
    """Print one look: JSON on one line, or for people."""
    if json_output:
        values = [json_safe(item.to_dict()) for item in found]
        print_json(values[0] if len(values) == 1 else values, indent=None)
        return
    for item in found:
        out.print(_panel(item))
        if item.latest and "ttt_ppl_at_1xW" in item.latest:
            print_table(evaluation_table(item.latest))
        for line in item.log:
            out.print(line, markup=False, soft_wrap=True)
        if item.next_command:
            err.print(f"[hint]next:[/] {escape(item.next_command)}", soft_wrap=True)


def _panel(item: RunStatus) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(item):
        if value:
            table.add_row(name, value)
    return table


def _rows(item: RunStatus) -> list[tuple[str, str]]:
    colour = _COLOURS[item.state]
    share = f" ({item.step / item.max_steps:.0%})" if item.step is not None and item.max_steps else ""
    best = f"selection_ppl {item.best_selection_ppl:.2f}" if item.best_selection_ppl is not None else ""
    if best and item.best_step is not None:
        best += f" at step {item.best_step:,}"
    return [
        ("run", escape(item.run)),
        ("state", f"[{colour}]{item.state}[/]: {escape(item.reason)}"),
        ("model", escape(item.model or "")),
        ("step", f"{item.step:,} of {item.max_steps:,}{share}" if item.step is not None and item.max_steps else ""),
        ("loss", f"{item.loss:.4f} (ppl {item.ppl:,.2f}) {sparkline(item.losses)}" if item.loss is not None else ""),
        ("speed", f"{item.tokens_per_second:,.0f} tokens/s" if item.tokens_per_second else ""),
        ("ETA", _finish_time(item.eta_seconds)),
        ("evaluations", f"{item.num_evaluations} of {item.num_evaluations_planned or '?'}"),
        ("best", best),
        ("patience", f"{item.num_waiting}/{item.patience}" if item.patience is not None else ""),
    ]


def sparkline(values: list[float]) -> str:
    """Values as bars; a question mark each where the terminal cannot show bars."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def _finish_time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    finish = time.strftime("%a %H:%M", time.localtime(time.time() + seconds))
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} m {rest % 60:02d} s ({finish})"
