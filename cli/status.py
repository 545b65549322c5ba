"""`tttkit status`: what a run is doing. Answers in a blink: neither torch nor matplotlib is loaded."""

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
from tttkit.run.directory import RunDirectory, find_run
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, out, parts_of, print_json, print_table, room, stdout_is_gone
from tttkit_cli.views.looks import Look, look_at, recall, remember
from tttkit_cli.views.status import details, overview, screen, troubles
from tttkit_cli.views.units import duration

_CHECK_CODES = {"stalled": 3, "crashed": 4, "nan-stopped": 5, "disk-full": 6}
_REDRAW_SECONDS = 0.5


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
        bool, typer.Option("--check", help="Exit 3 when stalled, 4 when crashed, 5 when NaN-stopped, 6 when disk-full.")
    ] = False,
) -> None:
    """Show state, progress, best result, patience and the last log lines of a run; several runs as a table.

    Examples: `tttkit status` · `tttkit status runs/quick --loop --interval 30` · `tttkit status runs/quick --check`
    """
    if not interval > 0:  # nan too
        raise UsageError(f"--interval must be above 0 seconds, got {interval:g}")
    paths = [*(runs or []), *([curriculum_dir] if curriculum_dir else [])]
    directories = [find_run(path) for path in paths] or [find_run(None)]
    if loop:
        with suppress(KeyboardInterrupt):
            watch = _watch if out.is_terminal and not json_output else _repeat
            watch(directories, interval, json_output)
        return
    found = [read_status(directory) for directory in directories]
    _print(found, [recall(item) for item in found], json_output=json_output)
    if not json_output:
        for item in found:
            remember(item)
    if check:
        raise typer.Exit(max(_CHECK_CODES.get(item.state, 0) for item in found))


def _repeat(directories: list[RunDirectory], interval: float, json_output: bool) -> None:
    """Print a block at each interval, until Ctrl-C or until nobody reads."""
    before: list[Look | None] = [None] * len(directories)
    while not stdout_is_gone():
        found = [read_status(directory) for directory in directories]
        if not json_output:
            out.print(f"== {datetime.now().astimezone().isoformat(timespec='seconds')}")
        _print(found, before, json_output=json_output)
        before = [look_at(item) for item in found]
        time.sleep(interval)


def _watch(directories: list[RunDirectory], interval: float, _json_output: bool) -> None:
    """Show the looks on the terminal's alternate screen, which is drawn twice a second to follow its size."""
    from rich.live import Live

    before = [recall(read_status(directory)) for directory in directories]
    with Live(console=out, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while not stdout_is_gone():
            found, looked = [read_status(directory) for directory in directories], time.monotonic()
            while (elapsed := time.monotonic() - looked) < interval and not stdout_is_gone():
                note = f"looked {duration(elapsed)} ago, again in {duration(interval - elapsed)}; Ctrl-C ends"
                live.update(screen(_parts(found, before), f"{_next(found, watching=True)}[dim]{note}[/]"), refresh=True)
                time.sleep(min(_REDRAW_SECONDS, interval))
            for item in found:
                remember(item)
            before = [look_at(item) for item in found]


def _print(found: list[RunStatus], before: list[Look | None], *, json_output: bool) -> None:
    """Print one look: JSON on one line, or for people."""
    if json_output:
        values = [json_safe(item.to_dict()) for item in found]
        print_json(values[0] if len(values) == 1 else values, indent=None)
        return
    for part in _parts(found, before):
        if isinstance(part, Table) and part.box is not None:
            print_table(part)
        else:
            out.print(part, soft_wrap=not isinstance(part, Table))
    err.print(_next(found), end="", soft_wrap=True)


def _next(found: list[RunStatus], *, watching: bool = False) -> str:
    """A line (markup) with the next command of each run; where a run is watched already, of those that need one."""
    return "".join(
        f"[hint]next:[/] {f'{escape(item.run)}: ' if len(found) > 1 else ''}{escape(item.next_command)}\n"
        for item in found
        if not (watching and item.state in LIVE_STATES)
    )


def _parts(found: list[RunStatus], before: list[Look | None]) -> list[RenderableType]:
    if len(found) == 1:
        return details(found[0], before[0], width=room())
    return [*parts_of(overview(found), room()), *troubles(found)]
