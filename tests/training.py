"""Start training runs from plain configuration values; no other place in the tests does so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tttkit.config.run import build_config
from tttkit.run.signals import StopSignals
from tttkit.train import start
from tttkit.train.options import RunOptions


def train(
    values: dict[str, Any],
    out: Path,
    *,
    report: Callable[[dict[str, Any]], object] = lambda _: None,
    signals: StopSignals | None = None,
    **options: Any,
) -> start.Outcome:
    """Train in `out`. `report` gets each event as its JSON object; `options` are the fields of RunOptions."""
    return start.train(
        build_config(values),
        Path(out),
        options=RunOptions(**options),
        report=lambda event: report(event.to_dict()),
        signals=signals,
    )
