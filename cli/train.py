"""`tttkit train`: trains with evaluations along the way; resumes an unfinished run by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tttkit.config.layers import Choices, Layer, collect_layers, merge, merge_layers, to_toml
from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import Config, build_config, known_key
from tttkit.run.data_location import data_of_run
from tttkit.run.directory import RunDirectory, find_run
from tttkit.train.options import RunOptions
from tttkit_cli.console import out, print_json, warn
from tttkit_cli.earlier import STATE_PASSING_EXPLAINED
from tttkit_cli.flags import LOOP_PANEL, with_config_flags
from tttkit_cli.training import (
    RUN_PANEL,
    AllowDataChange,
    AutoMicrobatch,
    Grace,
    JsonEvents,
    Plain,
    Quiet,
    Track,
    recorded_values,
    run_training,
)


def _option(panel: str, text: str, *names: str, hidden: bool = False, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, hidden=hidden, metavar=metavar)


@with_config_flags
def train(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file with sections model, data, optimizer, train, …")
    ] = None,
    preset: Annotated[str | None, _option(RUN_PANEL, "Named experiment to start from (default: quick).")] = None,
    data: Annotated[Path | None, _option(RUN_PANEL, "DATA directory made by `tttkit data prepare`.")] = None,
    output: Annotated[
        Path | None, _option(RUN_PANEL, "RUN directory (default: runs/PRESET).", "--out", "--curriculum-dir")
    ] = None,
    assignments: Annotated[
        list[str] | None, _option(RUN_PANEL, "Set any value: section.key=value. May be repeated.", "--set")
    ] = None,
    init_from: Annotated[
        str | None,
        _option(
            RUN_PANEL,
            "Start with the weights of a model directory, a run or a training checkpoint (RUN@STEP).",
            metavar="MODEL_OR_RUN",
        ),
    ] = None,
    branch_from: Annotated[
        str | None,
        _option(
            RUN_PANEL,
            "Continue from a training checkpoint of another run, with its settings except those that are given.",
            metavar="RUN@STEP",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Resume an unfinished run.", rich_help_panel=RUN_PANEL)] = True,
    track: Track = None,
    auto_microbatch: AutoMicrobatch = False,
    grace: Grace = 10.0,
    allow_data_change: AllowDataChange = False,
    allow_change: Annotated[
        list[str] | None,
        _option(RUN_PANEL, "Resume even if KEY (section.key or world_size) changed. May be repeated."),
    ] = None,
    dry_run: Annotated[bool, _option(RUN_PANEL, "Print the resolved configuration and exit.", "--dry-run")] = False,
    model: Annotated[
        str | None,
        _option(
            LOOP_PANEL,
            "Model: ttt-linear, ttt-mlp, sw, transformer, gated-deltanet, deltanet, mamba2, lact, titans or rwkv7.",
        ),
    ] = None,
    model_size: Annotated[
        str | None, _option(LOOP_PANEL, "Size from the official table: 125m, 350m, 760m or 1b.")
    ] = None,
    state_passing: Annotated[
        bool | None,
        _option(
            LOOP_PANEL,
            "Accepted from the earlier system; has no effect.",
            "--state-passing/--no-state-passing",
            hidden=True,
        ),
    ] = None,
    *,
    flags: dict[str, Any],
    plain: Plain = False,
    quiet: Quiet = False,
    json_events: JsonEvents = False,
) -> None:
    """Train a model; resume by itself if the run directory holds an unfinished run with the same options.

    Without arguments, it trains the `quick` preset on Python's standard library, a few minutes on two cores.

    Examples: `tttkit train` · `tttkit train --preset curriculum-100k --data DATA --device cuda`
    """  # fmt: skip
    if state_passing:
        warn(STATE_PASSING_EXPLAINED)
    choices = Choices(
        file=config, preset=preset, base=_base(branch_from, output), data=data, model=model,
        model_size=model_size, flags=flags, assignments=tuple(assignments or ()), environment=os.environ,
    )  # fmt: skip
    chosen = build_config(merge_layers(collect_layers(choices)))  # mistakes are reported before torch is loaded
    if dry_run:
        _print_config(resolve_config(chosen, Facts()), as_json=json_events)
        return
    from tttkit_cli.views.train import TrainView

    options = RunOptions(
        resume=resume, auto_microbatch=auto_microbatch, grace_seconds=grace, allow_data_change=allow_data_change,
        allow_change=frozenset(map(known_key, allow_change or ())), init_from=init_from, branch_from=branch_from,
        command=("tttkit", *sys.argv[1:]),
    )  # fmt: skip
    view = TrainView(plain=plain, quiet=quiet, json_events=json_events)
    run_training(chosen, output or Path("runs") / chosen.preset, view, options, track)


def _base(branch_from: str | None, output: Path | None) -> Layer | None:
    """Return the recorded values of the branch if it exists, else of its parent; None if the run is no branch."""
    if branch_from is None:
        return None
    run = RunDirectory(output) if output is not None else None
    if run is None or not run.metadata.exists():
        path, at, _ = branch_from.rpartition("@")
        run = find_run(Path(path if at else branch_from))
    values = recorded_values(run)
    if values.get("data", {}).get("path") is None:  # the parent has prepared its own data
        values = merge(values, {"data": {"path": str(data_of_run(run))}})
    return Layer(f"run {run.path}", values)


def _print_config(config: Config, *, as_json: bool) -> None:
    """Print the resolved configuration on stdout: as JSON, or as TOML that `tttkit train` reads."""
    if as_json:
        print_json(config.to_dict())
    else:
        out.print(to_toml(config.to_dict()), markup=False, end="", soft_wrap=True)
