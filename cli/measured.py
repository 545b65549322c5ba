"""Say about a measured model what `diagnose`, `quality`, `recall` and `eval` all say."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rich.markup import escape

from tttkit_cli.console import err


class Measured(Protocol):
    """Results of one model directory."""

    @property
    def written(self) -> tuple[Path, ...]:
        """Files that were written; empty if the results were known before."""

    @property
    def messages(self) -> tuple[str, ...]:
        """Sentences for the user about model and data."""


def say_measured(path: Path, measured: Measured, verb: str = "measured", settings: str = "settings") -> None:
    """Say what the user should know about a model, and which files were written or that all was known before."""
    for message in measured.messages:
        err.print(escape(message), soft_wrap=True)
    if not measured.written:
        err.print(f"[path]{escape(str(path))}[/]: {verb} before, same weights, data and {settings}", soft_wrap=True)
    for file in measured.written:
        say_written(file)


def say_written(file: Path) -> None:
    """Say that a file was written."""
    err.print(f"wrote [path]{escape(str(file))}[/]", soft_wrap=True)
