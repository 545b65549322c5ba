"""`tttkit export`: send what a run has recorded to a tracker, or into CSV files."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory, find_run, quoted
from tttkit.run.lock import is_locked
from tttkit.trackers.export import DEFAULT_PROJECT, TRACKERS
from tttkit.trackers.export import export as export_run
from tttkit_cli.console import out, print_json

if TYPE_CHECKING:
    from tttkit.run.signals import StopSignals

_SLICE_SECONDS = 0.2
"""A signal or the end of the training ends a wait within this time."""


def export(
    run: Annotated[Path | None, typer.Argument(help="RUN directory (default: the newest under runs/).")] = None,
    tracker: Annotated[
        str, typer.Option("--to", help="tensorboard, wandb, trackio or csv.", metavar="TRACKER", show_default=False)
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Go on as long as a process trains the run.")] = False,
    seconds: Annotated[float, typer.Option("--every", help="Seconds between two writes of --follow.", min=0.1)] = 10.0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Directory to write to (default: RUN/TRACKER; Trackio's own place).", show_default=False
        ),
    ] = None,
    project: Annotated[
        str, typer.Option(help="Project of wandb and trackio.", envvar="WANDB_PROJECT")
    ] = DEFAULT_PROJECT,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="wandb only: write a local run, which `wandb sync` sends later."),
    ] = False,
    from_train: Annotated[
        bool, typer.Option("--from-train", help="Go on until stdin ends, as `train --track` does.", hidden=True)
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Export losses, evaluations and figures of a run to TensorBoard, Weights & Biases, Trackio or CSV files.

    A run is one run there, also after it was resumed. An export may be killed and repeated: nothing is there twice.

    Examples: `tttkit export runs/quick --to tensorboard` · `tttkit export runs/quick --to csv --follow`
    """
    if tracker not in TRACKERS:
        raise UsageError(f"--to must be one of {', '.join(TRACKERS)}; got `{tracker}`")
    from tttkit.run.signals import StopSignals

    with StopSignals() as signals:
        wait: Callable[[float], bool] | None = None
        if from_train:
            wait = _until_train_ends(seconds)
            assert run is not None
            while not (run / "metadata.json").exists():
                if not wait(0.0):
                    return
        elif follow:
            wait = _while_training(find_run(run), seconds, signals)
        directory = find_run(run)
        offline = offline or os.environ.get("WANDB_MODE") == "offline"
        num_steps = export_run(directory, tracker, output=output, project=project, offline=offline, wait=wait)
    place = str(output or (f"trackio, project {project}" if tracker == "trackio" else directory.path / tracker))
    if json_output:
        print_json({"run": str(directory.path), "to": tracker, "place": place, "steps": num_steps})
    else:
        text = f"exported {num_steps:,} steps of {quoted(directory.path)} to {place}"
        out.print(text, markup=False, soft_wrap=True)


def _while_training(run: RunDirectory, seconds: float, signals: StopSignals) -> Callable[[float], bool]:
    """Return a wait that ends at a signal, and is False then or if no process trains the run."""

    def wait(at_least: float) -> bool:
        deadline = time.monotonic() + max(seconds, at_least)
        while signals.requested is None and is_locked(run):
            if time.monotonic() > deadline:
                return True
            time.sleep(_SLICE_SECONDS)
        return False

    return wait


def _until_train_ends(seconds: float) -> Callable[[float], bool]:
    """Return a wait that ends when stdin does: `tttkit train` holds its other end, however its process ends."""

    def wait(at_least: float) -> bool:
        return not select.select([sys.stdin], [], [], max(seconds, at_least))[0]

    return wait
