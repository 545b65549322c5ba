"""Options for the context `dynamic`, the same for every command that measures it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tttkit.config.dynamic import OPTIMIZERS, RESETS, DynamicConfig
from tttkit.errors import UsageError

_PANEL = "Context `dynamic`: the weights learn from the text that was scored"


def _option(field: str, help_text: str, **details: Any) -> Any:
    return typer.Option(
        f"--dynamic-{field}", help=help_text, rich_help_panel=_PANEL, show_default=False, **details
    )  # fmt: skip


_OPTIONS: dict[str, tuple[str, Any]] = {
    "learning_rate": ("dynamic_rate", Annotated[
        float | None, _option("rate", "Measure `dynamic` too, with this learning rate; `eval tune-dynamic` finds one.")
    ]),
    "decay": ("dynamic_decay", Annotated[
        float | None, _option("decay", "Share by which each step pulls the weights towards their start (0).")
    ]),
    "optimizer": ("dynamic_optimizer", Annotated[
        str | None, _option("optimizer", f"Rule of the steps: {' | '.join(OPTIMIZERS)} (sgd). rms divides by the RMS "
                            "of gradients on the training split.")
    ]),
    "parameters": ("dynamic_parameters", Annotated[
        str | None, _option("parameters", "Weights that learn: all, norms, mlp:last:N, or a regular expression (all).")
    ]),
    "segment": ("dynamic_segment", Annotated[
        int | None, _option("segment", "Tokens that are scored before each step (64).", min=1)
    ]),
    "reset": ("dynamic_reset", Annotated[
        str | None, _option("reset", f"Where the weights go back to their start: {' | '.join(RESETS)} (sequence).")
    ]),
}  # fmt: skip
"""By field of `DynamicConfig`: the name of the parameter of a command, and its option."""


def with_dynamic_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `dynamic` of `verb` by the options; it receives a DynamicConfig, or None without a rate."""
    return _with_options(verb, list(_OPTIONS), _config)


def with_tuned_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `fields` of `verb` by all options but rate and decay; it receives the given fields."""
    names = [name for name in _OPTIONS if name not in ("learning_rate", "decay")]
    return _with_options(verb, names, lambda fields: fields)


def flags_of(config: DynamicConfig) -> str:
    """Return the options that ask for these settings."""
    usual = DynamicConfig(learning_rate=config.learning_rate)
    fields = {name: getattr(config, name) for name in _OPTIONS}
    given = {name: value for name, value in fields.items() if name == "learning_rate" or value != getattr(usual, name)}
    return " ".join(f"--{_OPTIONS[name][0].replace('_', '-')} {_quoted(value)}" for name, value in given.items())


def _quoted(value: Any) -> str:
    import shlex

    return f"{value:g}" if isinstance(value, float) else shlex.quote(str(value))


def _config(fields: dict[str, Any]) -> DynamicConfig | None:
    if not fields:
        return None
    if "learning_rate" not in fields:
        raise UsageError(
            "the options --dynamic-… need a learning rate",
            hint="name one with --dynamic-rate; `tttkit eval tune-dynamic` finds it",
        )
    return DynamicConfig(**fields)


def _with_options(
    verb: Callable[..., None], names: list[str], make: Callable[[dict[str, Any]], Any]
) -> Callable[..., None]:
    replaced = next(name for name in ("dynamic", "fields") if name in inspect.signature(verb).parameters)

    @functools.wraps(verb)
    def with_options(**arguments: Any) -> None:
        given = {name: arguments.pop(_OPTIONS[name][0]) for name in names}
        value = make({name: each for name, each in given.items() if each is not None})
        verb(**arguments, **{replaced: value})

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb, eval_str=True).parameters.values():
        if parameter.name == replaced:
            kind = inspect.Parameter.KEYWORD_ONLY
            options = [_OPTIONS[name] for name in names]
            parameters += [inspect.Parameter(name, kind, default=None, annotation=each) for name, each in options]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_options
