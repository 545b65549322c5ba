"""Measure the recall of several models with progress bars, and draw one figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from tttkit.results.recall import FIGURE_NAME, SECOND_COPY, Recall
from tttkit_cli.console import err
from tttkit_cli.eval_targets import names_of, targets_of, with_text
from tttkit_cli.views.eval_progress import EvaluationProgress

if TYPE_CHECKING:
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.recall.directory import RecallSettings

Named = list[tuple[str, Recall]]


def measure_models(
    requests: list[EvaluationRequest],
    settings: RecallSettings,
    *,
    output: Path | None = None,
    texts: list[Path] | None = None,
) -> Named:
    """Return names and results of all models; every request is checked before the first model is measured."""
    from tttkit.recall.directory import check_recall
    from tttkit.report.figures.recall import plot_recall

    paths = [request.path for request in requests]
    names = names_of(paths)
    targets = targets_of(paths, output, "recall" if settings.task == SECOND_COPY else f"recall_{settings.task}")
    if texts:
        requests = [with_text(*pair, texts) for pair in zip(requests, targets, strict=True)]
    for request in requests:
        check_recall(request, settings)
    results = [_measure(*pair, settings) for pair in zip(requests, targets, strict=True)]
    named = list(zip(names, results, strict=True))
    figure = plot_recall(named, (output or targets[0]) / FIGURE_NAME)
    err.print(f"wrote {figure}", markup=False, soft_wrap=True)
    return named


def _measure(request: EvaluationRequest, target: Path, settings: RecallSettings) -> Recall:
    from tttkit.recall.directory import recall_model_directory

    with EvaluationProgress(request.path) as progress:
        result, written = recall_model_directory(request, target, settings, progress.update)
    if not written:
        text = f"[path]{escape(str(request.path))}[/]: measured before, same weights, data and settings"
        err.print(text, soft_wrap=True)
    for file in written:
        err.print(f"wrote {file}", markup=False, soft_wrap=True)
    return result
