"""`tttkit resume`: resumes a run with the options that it recorded, except those that are given."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tttkit.config.flags import FLAGS, RESUME_FLAGS
from tttkit.config.layers import merge
from tttkit.run.directory import find_run
from tttkit.train.options import RunOptions
from tttkit_cli.flags import with_config_flags
from tttkit_cli.train_options import (
    RUN_PANEL,
    AllowDataChange,
    AutoMicrobatch,
    Grace,
    JsonEvents,
    Plain,
    Quiet,
    Track,
)
from tttkit_cli.training import recorded_values, run_training


@functools.partial(with_config_flags, names=RESUME_FLAGS)
def resume(
    run: Annotated[Path, typer.Argument(help="RUN directory.")],
    data: Annotated[
        Path | None,
        typer.Option(help="DATA directory of the run, if it was moved.", rich_help_panel=RUN_PANEL, show_default=False),
    ] = None,
    track: Track = None,
    auto_microbatch: AutoMicrobatch = False,
    grace: Grace = 10.0,
    allow_data_change: AllowDataChange = False,
    *,
    flags: dict[str, Any],
    plain: Plain = False,
    quiet: Quiet = False,
    json_events: JsonEvents = False,
) -> None:
    """Resume an unfinished run, however it ended; say what was verified, skipped and lost.

    An option that sets a value changes it from the next step on. A finished run continues with --max-steps.

    Examples: `tttkit resume runs/quick` · `tttkit resume runs/quick --max-steps 4000`
    """
    from tttkit.config.run import build_config
    from tttkit_cli.views.train import TrainView

    directory = find_run(run)
    values = recorded_values(directory, data)
    changed = {FLAGS[flag]: value for flag, value in flags.items()}
    for key, value in changed.items():
        section, _, name = key.partition(".")
        values = merge(values, {section: {name: value}})
    options = RunOptions(
        auto_microbatch=auto_microbatch, grace_seconds=grace, allow_data_change=allow_data_change,
        allow_change=frozenset(changed), command=("tttkit", *sys.argv[1:]),
    )  # fmt: skip
    view = TrainView(plain=plain, quiet=quiet, json_events=json_events)
    run_training(build_config(values), run, view, options, track)
