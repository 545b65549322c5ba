"""`tttkit train`: trains, resumes by itself, evaluates along the way."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tttkit.errors import PreemptedError, UsageError
from tttkit.run.directory import find_run
from tttkit_cli.console import err, explain, out, print_json
from tttkit_cli.layers import SECTION_OF, Request, collect_layers, merge_layers, resolved_values

if TYPE_CHECKING:
    from tttkit_cli.views.train import TrainView

_RUN = "Run"
_LOOP = "Loop and optimizer"
_EVALUATION = "Evaluation and early stopping"
_SCREEN = "Screen"


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How to run, which does not change what is computed."""

    auto_microbatch: bool = False
    grace_seconds: float = 10.0
    allow_data_change: bool = False
    allowed_keys: frozenset[str] = frozenset()


def _option(panel: str, text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


def train(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file with sections model, data, optimizer, train, …")
    ] = None,
    preset: Annotated[str | None, _option(_RUN, "Named experiment to start from (default: quick).")] = None,
    data: Annotated[Path | None, _option(_RUN, "DATA directory of `tttkit data prepare`.")] = None,
    output: Annotated[
        Path | None, _option(_RUN, "RUN directory (default: runs/PRESET).", "--out", "--curriculum-dir")
    ] = None,
    assignments: Annotated[
        list[str] | None, _option(_RUN, "Any value: section.key=value. May be repeated.", "--set")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an unfinished run.", rich_help_panel=_RUN)] = True,
    auto_microbatch: Annotated[
        bool, _option(_RUN, "Out of memory: halve the micro-batch, keep the batch.", "--auto-microbatch")
    ] = False,
    grace: Annotated[float, typer.Option(help="Seconds to leave after SIGTERM.", min=0, rich_help_panel=_RUN)] = 10.0,
    allow_data_change: Annotated[
        bool, _option(_RUN, "Go on although the data is other data.", "--allow-data-change")
    ] = False,
    allow_change: Annotated[
        list[str] | None, _option(_RUN, "Go on although KEY (section.key, world_size) differs. May be repeated.")
    ] = None,
    dry_run: Annotated[bool, _option(_RUN, "Print the resolved configuration and stop.", "--dry-run")] = False,
    model: Annotated[str | None, _option(_LOOP, "ttt-linear, ttt-mlp, sw or transformer.")] = None,
    model_size: Annotated[str | None, _option(_LOOP, "125m, 350m, 760m or 1b of the official table.")] = None,
    window: Annotated[int | None, _option(_LOOP, "Training window W in tokens.")] = None,
    max_steps: Annotated[int | None, _option(_LOOP, "Optimizer updates.")] = None,
    batch_size: Annotated[int | None, _option(_LOOP, "Windows per micro-batch.")] = None,
    grad_accumulation: Annotated[int | None, _option(_LOOP, "Micro-batches per update.")] = None,
    learning_rate: Annotated[float | None, _option(_LOOP, "Peak learning rate.")] = None,
    warmup_ratio: Annotated[float | None, _option(_LOOP, "Share of the steps spent on warm-up.")] = None,
    weight_decay: Annotated[float | None, _option(_LOOP, "Decay of projection matrices.")] = None,
    max_grad_norm: Annotated[float | None, _option(_LOOP, "Gradient norm to clip to; 0: off.")] = None,
    precision: Annotated[str | None, _option(_LOOP, "fp32 or bf16 (default: bf16 on a GPU).")] = None,
    seed: Annotated[int | None, _option(_LOOP, "Seed of weights and order.")] = None,
    device: Annotated[str | None, _option(_LOOP, "cpu, cuda or cuda:N.")] = None,
    initial_state: Annotated[str | None, _option(_LOOP, "State that a window starts from: zero or contiguous.")] = None,
    save_every: Annotated[int | None, _option(_LOOP, "Steps between resumable states.")] = None,
    keep_weights: Annotated[
        bool | None, _option(_LOOP, "Keep the weights of every evaluation.", "--keep-weights")
    ] = None,
    num_eval_checkpoints: Annotated[int | None, _option(_EVALUATION, "Evaluations along the run.")] = None,
    eval_max_length: Annotated[int | None, _option(_EVALUATION, "Length T of evaluation sequences.")] = None,
    eval_num_sequences: Annotated[int | None, _option(_EVALUATION, "Sequences per evaluation.")] = None,
    sw_mode: Annotated[
        str | None, _option(_EVALUATION, "Sliding window at `positions` or everywhere, `exact`.")
    ] = None,
    early_stop_patience: Annotated[int | None, _option(_EVALUATION, "Evaluations without improvement.")] = None,
    early_stop_min_delta: Annotated[str | None, _option(_EVALUATION, "Least improvement: 0.5% or 50.")] = None,
    early_stop: Annotated[
        bool | None, _option(_EVALUATION, "Stop early at all.", "--early-stop/--no-early-stop")
    ] = None,
    plain: Annotated[bool, _option(_SCREEN, "Lines instead of a progress bar.", "--plain")] = False,
    quiet: Annotated[bool, _option(_SCREEN, "Errors and the result only.", "--quiet")] = False,
    json_events: Annotated[bool, _option(_SCREEN, "Events as JSON lines on stdout.", "--json")] = False,
) -> None:
    """Train a model; go on by itself where an earlier call with the same options stopped.

    Without arguments: the `quick` preset on the Python library's own source, minutes on two cores.

    Examples: `tttkit train` · `tttkit train --preset curriculum-100k --data DATA --device cuda`
    """
    flags = {name: value for name, value in locals().items() if name in SECTION_OF and value is not None}
    if flags.get("precision") == "no":  # the earlier system's word
        flags["precision"] = "fp32"
    request = Request(
        config=config, preset=preset, data=data, model=model, model_size=model_size, flags=flags,
        assignments=tuple(assignments or ()),
    )  # fmt: skip
    values = merge_layers(collect_layers(request, os.environ))
    out_directory = output or Path("runs") / values["preset"]
    resolved = resolved_values(values)  # what is wrong here is said before torch is loaded
    if dry_run:
        _print_config(resolved, as_json=json_events)
        return
    from tttkit_cli.views.train import TrainView

    options = RunOptions(auto_microbatch, grace, allow_data_change, frozenset(allow_change or ()))
    view = TrainView(plain=plain, quiet=quiet, json_events=json_events)
    run_training(values, out_directory, view, options, resume=resume)


def _print_config(resolved: dict[str, Any], *, as_json: bool) -> None:
    """The resolved configuration on stdout: JSON, or TOML ready to be used as CONFIG.toml."""
    from tttkit.config.layers import to_toml

    if as_json:
        print_json(resolved)
    else:
        out.print(to_toml(resolved), markup=False, end="", soft_wrap=True)


def run_training(
    values: dict[str, Any], directory: Path, view: TrainView, options: RunOptions, *, resume: bool = True
) -> None:
    """Train and show it. Signals are heeded from here on, so before torch is loaded."""
    from tttkit.run.signals import StopRequestedError, StopSignals

    def say() -> None:
        err.show_cursor()
        what = (
            f"stopped by {signals.requested} in the middle of something that did not end in {options.grace_seconds:g} s"
        )
        explain(
            f"{what}; steps since the last saved state are lost",
            f"go on with `tttkit resume {shlex.quote(str(directory))}`",
        )

    with StopSignals(grace_seconds=options.grace_seconds) as signals, view:
        signals.last_words = say
        view.starting(directory)
        from tttkit.train.checks import Allowed
        from tttkit.train.start import train as start_training

        try:
            signals.poll()
        except StopRequestedError as stop:
            raise PreemptedError(
                f"stopped by {stop} before the first step", hint="run the same command again"
            ) from None
        outcome = start_training(
            values,
            directory,
            report=view.event,
            prepare_progress=view.preparing,
            resume=resume,
            command=["tttkit", *sys.argv[1:]],
            allowed=Allowed(data=options.allow_data_change, keys=options.allowed_keys),
            auto_microbatch=options.auto_microbatch,
            signals=signals,
        )
    view.finished(outcome.run, outcome.reason, already_ended=outcome.already_ended)


def go_on(directory: Path, *, plain: bool, quiet: bool, json_events: bool, options: RunOptions) -> None:
    """Go on with the run in `directory`, with the options that it recorded. Raises UsageError where there is none."""
    from tttkit_cli.views.train import TrainView

    config = find_run(directory).read_metadata().get("config")
    if config is None:
        raise UsageError(f"{directory} was made by the earlier system, which left nothing to go on from")
    run_training(config, directory, TrainView(plain=plain, quiet=quiet, json_events=json_events), options)
