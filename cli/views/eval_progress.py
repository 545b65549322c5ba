"""The progress bar of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from tttkit_cli.console import progress_bar


class EvaluationProgress:
    """A progress bar on a terminal from the first update on; nothing elsewhere."""

    def __init__(self, path: Path) -> None:
        self._progress = progress_bar(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._task = self._progress.add_task(escape(f"evaluating {path}"), total=1.0)
        self._is_started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_started:
            self._progress.stop()

    def update(self, share: float) -> None:
        """Show the share done."""
        if not self._is_started:
            self._progress.start()
            self._is_started = True
        self._progress.update(self._task, completed=share)
