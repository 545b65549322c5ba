"""Typer options for configuration fields: name from `config.flags`, help, type and choices from the field itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from tttkit.config.fields import FieldDescription, describe_fields
from tttkit.config.flags import FLAGS, option_name

LOOP_PANEL = "Loop and optimizer"
EVALUATION_PANEL = "Evaluation and early stopping"
_PANELS = {"evaluation": EVALUATION_PANEL, "early_stopping": EVALUATION_PANEL}


def with_config_flags(verb: Callable[..., None], names: Iterable[str] = tuple(FLAGS)) -> Callable[..., None]:
    """Replace the parameter `flags` of `verb` by one option for each of `names`, which are entries of FLAGS.

    `verb` receives the options that were given as a dictionary by flag name.
    """

    @functools.wraps(verb)
    def with_flags(**arguments: Any) -> None:
        flags = {name: arguments.pop(name) for name in names}
        verb(**arguments, flags={name: value for name, value in flags.items() if value is not None})

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb, eval_str=True).parameters.values():
        parameters += map(_parameter, names) if parameter.name == "flags" else [parameter]
    with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_flags


def _parameter(flag: str) -> inspect.Parameter:
    field = describe_fields()[FLAGS[flag]]
    return inspect.Parameter(
        flag,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[field.type | None, _option(flag, field)],
    )


def _option(flag: str, field: FieldDescription) -> Any:
    name = option_name(flag)
    return typer.Option(
        f"{name}/--no-{name.removeprefix('--')}" if field.default is True else name,
        help=f"{field.help} ({' | '.join(field.choices)})" if field.choices else field.help,
        autocompletion=(lambda: list(field.choices)) if field.choices else None,
        rich_help_panel=_PANELS.get(field.key.partition(".")[0], LOOP_PANEL),
        show_default=False,
    )
