"""`tttkit resume`: goes on with a run, with the options that it recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tttkit_cli.train import RunOptions, go_on


def resume(
    run: Annotated[Path, typer.Argument(help="RUN directory.")],
    auto_microbatch: Annotated[
        bool, typer.Option("--auto-microbatch", help="Out of memory: halve the micro-batch, keep the batch.")
    ] = False,
    grace: Annotated[float, typer.Option(help="Seconds to leave after SIGTERM.", min=0)] = 10.0,
    allow_data_change: Annotated[
        bool, typer.Option("--allow-data-change", help="Go on although the data is other data.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a progress bar.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Errors and the result only.")] = False,
    json_events: Annotated[bool, typer.Option("--json", help="Events as JSON lines on stdout.")] = False,
) -> None:
    """Go on with an unfinished run, however it ended; says what was verified, skipped and lost.

    Example: `tttkit resume runs/quick`
    """
    options = RunOptions(auto_microbatch, grace, allow_data_change)
    go_on(run, plain=plain, quiet=quiet, json_events=json_events, options=options)
