"""Measure the recall of several models with progress bars, draw one figure, and show the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from tttkit.results.recall import FIGURE_NAME, SECOND_COPY, Recall
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table
from tttkit_cli.eval_targets import names_of, targets_of, with_text
from tttkit_cli.measured import say_measured, say_written
from tttkit_cli.views.eval_progress import EvaluationProgress
from tttkit_cli.views.recall import differences_table, left_out_lines, recall_table

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
    say_written(figure)
    return named


def show_recall(results: Named, *, json_output: bool) -> None:
    """Print the results as JSON, or as a table with the differences between models."""
    if json_output:
        print_json(json_safe([result.to_dict() for _, result in results]))
        return
    print_table(recall_table(results), num_keys=2)
    for line in left_out_lines(results):
        err.print(escape(line), soft_wrap=True)
    table, without = differences_table(results)
    if table.row_count:
        print_table(table, num_keys=2)
    for name in without:
        text = f"{name} cannot be compared with {results[0][0]}: they have not read the same examples"
        err.print(f"[warning]{escape(text)}[/]", soft_wrap=True)


def _measure(request: EvaluationRequest, target: Path, settings: RecallSettings) -> Recall:
    from tttkit.recall.directory import recall_model_directory

    with EvaluationProgress(request.path) as progress:
        result = recall_model_directory(request, target, settings, progress.update)
    say_measured(request.path, result)
    return result.recall
