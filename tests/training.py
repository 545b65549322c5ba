"""The one place in which tests start a training run from plain configuration values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tttkit.train import start


def train_values(
    values: dict[str, Any], out: Path, *, report: Callable[[dict[str, Any]], None] | None = None, **options: Any
) -> start.Outcome:
    """Train a configuration of nested dictionaries in `out`. `report` receives each event as its JSON object."""
    return start.train(values, Path(out), report=report or (lambda _event: None), **options)
