"""`tttkit status`: what a run is doing. It loads neither torch nor matplotlib nor pydantic, to answer at once."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from tttkit.errors import UsageError
from tttkit.health.lifecycle import LIVE_STATES
from tttkit.health.status import RunStatus, read_status
from tttkit.run.directory import STUDY_FILE, RunDirectory, find_run, runs_at
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, out, parts_of, print_json, print_table, room, stdout_is_gone
from tttkit_cli.views.status import details, overview, screen, troubles
from tttkit_cli.views.units import duration

_CHECK_CODES = {"stalled": 3, "crashed": 4, "nan-stopped": 5, "disk-full": 6}
_REDRAW_SECONDS = 0.5
_LONGEST_INTERVAL = 86_400


def status(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="RUN directories, or directories of studies (default: the newest run under runs/).", metavar="RUN…"
        ),
    ] = None,
    curriculum_dir: Annotated[
        Path | None, typer.Option(help="Another name for RUN, as in the earlier system.", show_default=False)
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Refresh until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between refreshes.")] = 180.0,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 3 if stalled, 4 if crashed, 5 if NaN-stopped, 6 if the disk is full.")
    ] = False,
) -> None:
    """Show status, progress, best result, patience and the last log lines of a run, or several runs in a table.

    Examples: `tttkit status` · `tttkit status runs/quick --loop --interval 30` · `tttkit status runs/quick --check`
    """
    if not 0 < interval <= _LONGEST_INTERVAL:
        raise UsageError(f"--interval must be above 0 and at most {_LONGEST_INTERVAL:,} seconds, got {interval:g}")
    paths = [*(runs or []), *([curriculum_dir] if curriculum_dir else [])]
    directories = [run for path in paths for run in runs_at(path)] or [find_run(None)]
    many = len(paths) > 1 or any((path / STUDY_FILE).is_file() for path in paths)
    if loop:
        with suppress(KeyboardInterrupt):
            if out.is_terminal and not json_output:
                _watch(directories, interval)
            else:
                _repeat(directories, interval, json_output=json_output, many=many)
        return
    items = [read_status(directory) for directory in directories]
    _print(items, json_output=json_output, many=many)
    if check:
        raise typer.Exit(max(_CHECK_CODES.get(item.state, 0) for item in items))


def _repeat(directories: list[RunDirectory], interval: float, *, json_output: bool, many: bool) -> None:
    """Print a block after each interval, until Ctrl-C or until stdout has no reader."""
    while not stdout_is_gone():
        if not json_output:
            out.print(f"== {datetime.now().astimezone().isoformat(timespec='seconds')}")
        _print([read_status(directory) for directory in directories], json_output=json_output, many=many)
        time.sleep(interval)


def _watch(directories: list[RunDirectory], interval: float) -> None:
    """Show the run statuses on the terminal's alternate screen, redrawn twice a second to follow its size."""
    from rich.live import Live

    with Live(console=out, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while not stdout_is_gone():
            items, read_at = [read_status(directory) for directory in directories], time.monotonic()
            while (elapsed := time.monotonic() - read_at) < interval and not stdout_is_gone():
                note = f"read {duration(elapsed)} ago, next in {duration(interval - elapsed)}; Ctrl-C ends"
                live.update(screen(_parts(items), f"{_next(items, watching=True)}[dim]{note}[/]"), refresh=True)
                time.sleep(min(_REDRAW_SECONDS, interval))


def _print(items: list[RunStatus], *, json_output: bool, many: bool) -> None:
    """Print run statuses: as JSON on one line (a list if `many` runs were asked for), or for people."""
    if json_output:
        values = [json_safe(item.to_dict()) for item in items]
        print_json(values if many else values[0], indent=None)
        return
    for part in _parts(items):
        if isinstance(part, Table) and part.box is not None:
            print_table(part)
        else:
            out.print(part, soft_wrap=not isinstance(part, Table))
    err.print(_next(items), end="", soft_wrap=True)


def _next(items: list[RunStatus], *, watching: bool = False) -> str:
    """Return a line (markup) with the next command of each run; if the user is watching, only of runs that ended."""
    return "".join(
        f"[hint]next:[/] {f'{escape(item.run)}: ' if len(items) > 1 else ''}{escape(item.next_command)}\n"
        for item in items
        if not (watching and item.state in LIVE_STATES)
    )


def _parts(items: list[RunStatus]) -> list[RenderableType]:
    if len(items) == 1:
        return details(items[0], width=room())
    return [*parts_of(overview(items), room()), *troubles(items)]
