"""`tttkit train`: trains with evaluations along the way; resumes an unfinished run by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tttkit.config.layers import Choices, Layer, collect_layers, merge, merge_layers, to_toml
from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import Config, build_config, known_key
from tttkit.run.data_location import data_of_run
from tttkit.run.directory import RunDirectory, find_run
from tttkit.train.options import RunOptions
from tttkit_cli import train_options as options
from tttkit_cli.console import out, print_json, warn
from tttkit_cli.earlier import STATE_PASSING_EXPLAINED
from tttkit_cli.flags import with_config_flags
from tttkit_cli.training import recorded_values, run_training


@with_config_flags
def train(
    config: options.ConfigFile = None,
    preset: options.Preset = None,
    data: options.Data = None,
    output: options.Output = None,
    assignments: options.Assignments = None,
    init_from: options.InitFrom = None,
    branch_from: options.BranchFrom = None,
    resume: options.Resume = True,
    extend: options.Extend = False,
    track: options.Track = None,
    auto_microbatch: options.AutoMicrobatch = False,
    grace: options.Grace = 10.0,
    allow_data_change: options.AllowDataChange = False,
    allow_change: options.AllowChange = None,
    dry_run: options.DryRun = False,
    model: options.Model = None,
    model_size: options.ModelSize = None,
    state_passing: options.StatePassing = None,
    *,
    flags: dict[str, Any],
    plain: options.Plain = False,
    quiet: options.Quiet = False,
    json_events: options.JsonEvents = False,
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

    may_change = {known_key(key) for key in allow_change or ()} | ({"train.max_steps"} if extend else set())
    run_options = RunOptions(
        resume=resume, auto_microbatch=auto_microbatch, grace_seconds=grace, allow_data_change=allow_data_change,
        allow_change=frozenset(may_change), init_from=init_from, branch_from=branch_from,
        command=("tttkit", *sys.argv[1:]),
    )  # fmt: skip
    view = TrainView(plain=plain, quiet=quiet, json_events=json_events)
    run_training(chosen, output or Path("runs") / chosen.preset, view, run_options, track)


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
