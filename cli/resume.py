"""`tttkit resume`: resumes a run with the options that it recorded."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from tttkit.errors import UsageError
from tttkit.run.directory import find_run
from tttkit.train.options import RunOptions
from tttkit_cli.training import (
    RUN_PANEL,
    AllowDataChange,
    AutoMicrobatch,
    Grace,
    JsonEvents,
    Plain,
    Quiet,
    run_training,
)


def resume(
    run: Annotated[Path, typer.Argument(help="RUN directory.")],
    auto_microbatch: AutoMicrobatch = False,
    grace: Grace = 10.0,
    allow_data_change: AllowDataChange = False,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads from now on (default: as before). The exact bits of the result depend on it.",
            min=1,
            show_default=False,
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    plain: Plain = False,
    quiet: Quiet = False,
    json_events: JsonEvents = False,
) -> None:
    """Resume an unfinished run, however it ended; say what was verified, skipped and lost.

    Example: `tttkit resume runs/quick`
    """
    from tttkit.config.run import build_config
    from tttkit_cli.views.train import TrainView

    values = find_run(run).read_metadata().get("config")
    if values is None:
        raise UsageError(f"{run} was made by the earlier system, which saved nothing to resume from")
    config = build_config(values)
    if threads is not None:
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_threads=threads))
    options = RunOptions(
        auto_microbatch=auto_microbatch, grace_seconds=grace, allow_data_change=allow_data_change,
        command=("tttkit", *sys.argv[1:]),
    )  # fmt: skip
    view = TrainView(plain=plain, quiet=quiet, json_events=json_events)
    run_training(config, run, view, options)
