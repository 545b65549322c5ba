"""What `tttkit train` and `tttkit resume` both do: training with its progress shown."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tttkit.config.layers import merge
from tttkit.errors import PreemptedError, RankLostError, TttkitError, UsageError
from tttkit.run.directory import RunDirectory, quoted
from tttkit.run.saved import describe_saved, newest_saved_step
from tttkit.run.signals import StopRequestedError, StopSignals, within
from tttkit.run.world import world_of
from tttkit.storage.files import append_lines
from tttkit.train.events import Event, Warned
from tttkit_cli.console import err, explain, warn
from tttkit_cli.follower import check_tracker, following

if TYPE_CHECKING:
    from tttkit.config.run import Config
    from tttkit.train.options import RunOptions
    from tttkit_cli.views.train import TrainView

_DISK_SECONDS = 0.5


def recorded_values(directory: RunDirectory, data: Path | None = None) -> dict[str, Any]:
    """Return the configuration that a run recorded, with `data` or the place of its data. Raises UsageError."""
    metadata = directory.read_metadata()
    if "config" not in metadata:
        raise UsageError(f"{directory.path} was made by the earlier system, which saved nothing to resume from")
    values: dict[str, Any] = metadata["config"]
    recorded = metadata.get("data", {}).get("path")
    if data is not None:
        return merge(values, {"data": {"path": str(data)}})
    if values.get("data", {}).get("path") is not None and recorded:
        return merge(values, {"data": {"path": str(directory.path / recorded)}})
    return values


def run_training(
    config: Config, directory: Path, view: TrainView, options: RunOptions, track: str | None = None
) -> None:
    """Train and show the progress. SIGTERM and Ctrl-C are handled from here on, also while torch is loading.

    Of the ranks that torchrun starts, the first shows the progress and the errors that all of them have. With `track`,
    a process beside it exports the run to that tracker.
    """
    world = world_of()
    if world.is_distributed:
        # torch advises every rank against the search for unused parameters, which keeps bits equal (data_parallel.py)
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if not world.is_first:
        _run_silently(config, directory, options)
        return
    if track is not None:
        check_tracker(track)
    with (
        StopSignals(grace_seconds=options.grace_seconds) as signals,
        view,
        following(track, directory, lambda message: _warn(message, directory, view)),
    ):
        signals.announce_exit = lambda: _say_forced_exit(signals, directory, options.grace_seconds)
        view.starting(directory)
        from tttkit.train.start import train

        try:
            signals.poll()
        except StopRequestedError as stop:
            raise PreemptedError(
                f"stopped by {stop} before the first step", hint="run the same command again"
            ) from None
        outcome = train(
            config,
            directory,
            options=options,
            report=view.event,
            prepare_progress=view.preparing,
            signals=signals,
        )
    view.finished(outcome.run, outcome.reason, already_ended=outcome.already_ended)


def _run_silently(config: Config, directory: Path, options: RunOptions) -> None:
    """Train as a rank other than the first, which prints an error only if it is about the ranks themselves."""
    with StopSignals(grace_seconds=options.grace_seconds) as signals:
        from tttkit.train.start import train

        try:
            train(config, directory, options=options, report=_show_warning, signals=signals)
        except RankLostError:
            raise
        except TttkitError as error:
            raise typer.Exit(error.exit_code) from error


def _warn(message: str, directory: Path, view: TrainView) -> None:
    """Show a warning, and write it into the log of the run if it has one already."""
    from tttkit.train.events import Warned
    from tttkit.train.logs.metrics import now

    run = RunDirectory(directory)
    view.event(Warned(step=(run.read_heartbeat() or {}).get("step", 0), message=message))
    with suppress(OSError):
        append_lines(run.training_log, [f"{now()} {message}"])


def _show_warning(event: Event) -> None:
    if isinstance(event, Warned):
        warn(event.message)


def _say_forced_exit(signals: StopSignals, directory: Path, grace_seconds: float) -> None:
    """Say what is saved, without waiting longer than half a second for the disk."""
    saved = within(_DISK_SECONDS, lambda: describe_saved(newest_saved_step(RunDirectory(directory))))
    err.show_cursor()
    explain(
        f"still busy {grace_seconds:g} s after {signals.requested}; exiting now; "
        f"{saved or 'steps after the newest training checkpoint are lost'}",
        f"resume with `tttkit resume {quoted(directory)}`",
    )
