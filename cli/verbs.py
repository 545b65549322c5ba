"""The verbs of `tttkit`, each loaded when it is called: neither `--help` nor `status` waits for the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup


class Verb(NamedTuple):
    """Where a verb is, a function or a group of its module here, and what the list of commands says of it."""

    module: str
    name: str
    summary: str


VERBS = {
    "data": Verb("data", "data_app", "Turn text into packed tokens; inspect and verify them."),
    "train": Verb("train", "train", "Train a model, with evaluations along the way; go on where a run stopped."),
    "resume": Verb("resume", "resume", "Go on with an unfinished run, however it ended."),
    "status": Verb("status", "status", "Show what a run is doing and what to do next; several runs as a table."),
    "eval": Verb("eval", "eval_app", "Measure perplexity by position, in every context."),
    "plot": Verb("plot", "plot", "Draw the figures of a run, or of several side by side."),
    "compare": Verb("compare", "compare", "Compare runs at equal tokens and at the end."),
    "report": Verb("report", "report", "Answer the research questions on paper and on one page for a browser."),
    "generate": Verb("generate", "generate", "Continue a text with a trained model."),
    "convert": Verb("convert", "convert", "Convert a model to or from the format of the official TTT code."),
    "bench": Verb("bench", "bench_app", "Measure this machine, beside the peers that are installed."),
    "doctor": Verb("doctor", "doctor", "Verify a run or this machine, and mend."),
    "config": Verb("config", "config_app", "Show the configuration and where each value comes from."),
}


class Verbs(TyperGroup):
    """The group of all verbs. Until one is called, it is a command with a summary and nothing else."""

    def __init__(self, **attributes: Any) -> None:
        """Take what Typer gives a group."""
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=verb.summary) for name, verb in VERBS.items()}

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Read the options before the verb."""
        read_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:
        """Load the verb that is called."""
        if args and args[0] in VERBS:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)


class PlainCommand(TyperCommand):
    """A command that starts in a blink: `read_plainly`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Read all arguments and options."""
        read_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)


def load(name: str) -> Any:
    """The command or group of a verb."""
    verb = VERBS[name]
    found = getattr(import_module(f".{verb.module}", __package__), verb.name)
    parent = typer.Typer()
    parent.callback()(lambda: None)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
    else:
        parent.command(name, cls=PlainCommand if name == "status" else None)(found)
    return typer.main.get_command(parent).commands[name]  # type: ignore[attr-defined]


def read_plainly(parameters: list[Any]) -> None:
    """Let paths, numbers without a range and what was not given be read without Typer's adapters.

    Those need pydantic, and to load it takes longer than all that `status` does. Should Typer once ask its parameters
    in another way, this changes nothing.
    """
    for parameter in parameters:
        if not isinstance(parameter.get_runtime_param, _Plain):
            parameter.get_runtime_param = _Plain(parameter.get_runtime_param, parameter.type_descriptor.annotation)


class _Plain:
    """Stands in for `get_runtime_param` and for what that returns."""

    def __init__(self, get_runtime_param: Callable[[], Any], annotation: Any) -> None:
        self._get_runtime_param, self._annotation = get_runtime_param, annotation

    def __call__(self) -> _Plain:
        return self

    def coerce(self, value: Any, param: Any, ctx: typer.Context) -> Any:
        """The value as the annotation says; Typer's own way also words the error."""
        if value is None:
            return () if param.nargs == -1 else None
        with suppress(ValueError):
            if self._annotation == list[Path]:
                return [Path(item) for item in value]
            if self._annotation in (Path, float):
                return self._annotation(value)
        return self._get_runtime_param().coerce(value, param=param, ctx=ctx)
