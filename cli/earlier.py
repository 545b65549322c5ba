"""Options of the earlier system and of version 0.1.0 that `tttkit` still accepts. Help does not list them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

_PRESENT_NAMES = {
    "carry": "initial-state",
    "gradient-accumulation-steps": "grad-accumulation",
    "max-seq-length": "window",
    "max-train-steps": "max-steps",
    "mixed-precision": "precision",
    "output-dir": "out",
    "per-device-train-batch-size": "batch-size",
}
_STATE_PASSING = {"--state-passing": True, "--no-state-passing": False}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

STATE_PASSING_EXPLAINED = (
    "--state_passing is ignored. The earlier system's 100k script ignored it too; its 15k script started each window "
    "from the final state of an unrelated window, and the learned initial weights received no gradient. To start "
    "windows from the state of the preceding window in contiguous text, use --initial-state contiguous"
)


def present_name(name: str) -> str:
    """Return the present name of an option, given without its leading dashes; underscores become dashes."""
    name = name.replace("_", "-")
    return _PRESENT_NAMES.get(name, name)


class CommandWithStatePassing(TyperCommand):
    """A command with the flag `--state-passing`, which also accepts a value: `--state_passing true`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse all arguments and options."""
        return super().parse_args(ctx, list(_without_values(args)))


def _without_values(arguments: list[str]) -> Iterator[str]:
    """Yield the arguments; a value of `--state-passing` is turned into the flag that means the same."""
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.replace("_", "-").partition("=")
        if name not in _STATE_PASSING:
            yield argument
            continue
        if not equals and waiting and waiting[0].lower() in _TRUTH:
            value = waiting.pop(0)
        is_on = _STATE_PASSING[name] == _TRUTH.get(value.lower(), True)
        yield "--state-passing" if is_on else "--no-state-passing"
