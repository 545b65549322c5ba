"""The verbs of `tttkit`. Each is loaded when it is called, so that `--help` and `status` do not wait for the others."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from tttkit.config.limits import MOST_NUMBER, MOST_THREADS
from tttkit_cli.earlier import CommandWithStatePassing


class QuickCommand(TyperCommand):
    """A command that starts without pydantic, see `convert_without_pydantic`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse all arguments and options."""
        convert_without_pydantic(self.get_params(ctx))
        return super().parse_args(ctx, args)


class Verb(NamedTuple):
    """The module of a verb, its function or group there, its line in the list of commands, and its command class."""

    module: str
    name: str
    summary: str
    command: type[TyperCommand] = TyperCommand


VERBS = {
    "data": Verb("data", "data_app", "Turn text into packed tokens; inspect and verify them."),
    "train": Verb(
        "train", "train", "Train a model with evaluations along the way, or resume a run.", CommandWithStatePassing
    ),
    "resume": Verb("resume", "resume", "Resume an unfinished run, however it ended."),
    "status": Verb("status", "status", "Show what a run is doing and what to do next.", QuickCommand),
    "eval": Verb("eval", "eval_app", "Measure perplexity by position, in every context."),
    "recall": Verb("recall", "recall", "Measure what models remember of what they have read."),
    "diagnose": Verb("diagnose", "diagnose", "Measure why models hold up past their window or not."),
    "quality": Verb("quality", "quality", "Let models continue real text, and measure what they write."),
    "plot": Verb("plot", "plot", "Draw the figures of a run, or of several runs side by side."),
    "sweep": Verb("sweep", "sweep", "Train a study over settings and seeds, and show its table."),
    "compare": Verb("compare", "compare", "Compare runs at equal tokens and at the end."),
    "report": Verb("report", "report", "Write the Markdown and HTML report."),
    "export": Verb("export", "export", "Export a run to TensorBoard, Weights & Biases, Trackio or CSV files."),
    "generate": Verb("generate", "generate", "Continue a text with a trained model."),
    "convert": Verb("convert", "convert", "Convert a model for the official TTT code or transformers, and back."),
    "bench": Verb("bench", "bench_app", "Benchmark this machine, with the installed peers for comparison."),
    "doctor": Verb("doctor", "doctor", "Check a run or this machine, and repair what can be repaired."),
    "config": Verb("config", "config_app", "Show the configuration and where each value comes from."),
}


class Verbs(TyperGroup):
    """The group of all verbs. Until a verb is called, it is a command with only a summary."""

    def __init__(self, **attributes: Any) -> None:
        """Accept what Typer passes to a group."""
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=verb.summary) for name, verb in VERBS.items()}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the verb."""
        convert_without_pydantic(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the verb that is called."""
        if args and args[0] in VERBS:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)


def load(name: str) -> TyperCommand | TyperGroup:
    """Return the command or group of a verb."""
    verb = VERBS[name]
    function_or_group = getattr(import_module(f".{verb.module}", __package__), verb.name)
    parent = typer.Typer()
    parent.callback()(lambda: None)
    if isinstance(function_or_group, typer.Typer):
        parent.add_typer(function_or_group, name=name)
    else:
        parent.command(name, cls=verb.command)(function_or_group)
    group = cast("TyperGroup", typer.main.get_command(parent))
    command = cast("TyperCommand | TyperGroup", group.commands[name])
    for each in (command, *getattr(command, "commands", {}).values()):
        each.help = _unwrapped(each.help or "")
        for parameter in each.params:
            parameter.process_value = partial(_usable, parameter, parameter.process_value)
    return command


def _unwrapped(text: str) -> str:
    """Return help with a line per paragraph; Typer keeps the line breaks of the docstring, whatever the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _usable(parameter: Any, usual: Any, ctx: typer.Context, value: Any) -> Any:
    """Return the value of a parameter; `usual` converts it. Numbers that nobody means are refused for every option."""
    converted = usual(ctx, value)
    for each in converted if isinstance(converted, list | tuple) else [converted]:
        if isinstance(each, float) and not math.isfinite(each):
            raise typer.BadParameter(f"{each} is not a finite number", ctx=ctx, param=parameter)
        if isinstance(each, int) and abs(each) > MOST_NUMBER:
            raise typer.BadParameter(f"{each} is out of range", ctx=ctx, param=parameter)
        if isinstance(each, int) and "--threads" in parameter.opts and each > MOST_THREADS:
            raise typer.BadParameter(f"{each} is more than {MOST_THREADS} threads", ctx=ctx, param=parameter)
    return converted


def convert_without_pydantic(parameters: list[Any]) -> None:
    """Convert paths, numbers and missing values of `parameters` here; Typer converts everything else.

    Typer converts values with pydantic, and loading pydantic takes as long as all the rest of `tttkit status`: 0.4 s
    instead of 0.2 s. If Typer changes how it converts values, `status` is slower, and nothing else changes.
    """
    for parameter in parameters:
        parameter.process_value = partial(_process_value, parameter, parameter.process_value)


def _process_value(parameter: Any, usual: Any, ctx: typer.Context, value: Any) -> Any:
    """Return the value of a parameter; `usual` is Typer's own conversion, which also words the errors."""
    annotation = parameter.type_descriptor.annotation
    with suppress(ValueError):
        if value is None:
            return None
        if annotation in (Path, float):
            return annotation(value)
        if annotation == list[Path]:
            return [Path(item) for item in value]
    return usual(ctx, value)
