"""Evaluate models with progress bars, and show their summaries: what all verbs of `tttkit eval` do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table, room
from tttkit_cli.measured import say_measured
from tttkit_cli.views.eval_progress import EvaluationProgress
from tttkit_cli.views.tables import evaluation_table, models_table, ratios_table, slots_table, whole_split_table

if TYPE_CHECKING:
    from tttkit.evaluate.model_directory import EvaluatedModel
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.results.curves import Curves
    from tttkit.results.summary import Summary

Summaries = Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")]


def compute_blocks_of(engine: str, pairs: list[tuple[EvaluationRequest, Path]]) -> None:
    """With the engine ray, compute all parts of the evaluations on the cluster; the evaluation then reads them."""
    from tttkit.cluster.tasks import check_engine, connected

    check_engine(engine)
    if engine == "ray":
        with connected() as cluster, EvaluationProgress(Path("all models")) as progress:
            from tttkit.cluster.evaluations import compute_blocks

            compute_blocks(cluster, pairs, progress=progress.update)


def evaluate_with_progress(request: EvaluationRequest, target: Path) -> EvaluatedModel:
    """Evaluate one model with a progress bar, and say what was written."""
    from tttkit.evaluate.model_directory import evaluate_model_directory

    with EvaluationProgress(request.path) as progress:
        result = evaluate_model_directory(request, target, progress=progress.update, draw=_draw)
    say_measured(request.path, result, "evaluated", "protocol")
    return result


def _draw(curves: Curves, directory: Path) -> Path:
    from tttkit.report.figures.position import chunk_eval_name, plot_chunk_eval

    return plot_chunk_eval(curves, directory / chunk_eval_name(curves))


def show_evaluations(named: dict[str, EvaluatedModel], *, json_output: bool) -> None:
    """Print the summaries as JSON, or as tables, and several models side by side."""
    summaries = [result.summary for result in named.values()]
    if json_output:
        values = [summary.to_dict() for summary in summaries]
        print_json(json_safe(values[0] if len(values) == 1 else values))
        return
    for summary in summaries:
        print_table(evaluation_table(summary, width=room()))
        for reason in summary.get("not_measured", {}).values():
            err.print(escape(f"{summary.get('path')}: {reason}"), soft_wrap=True)
        slots = slots_table(summary)
        if slots is not None:
            print_table(slots)
    print_table(whole_split_table(summaries))
    if len(named) > 1:
        _show_side_by_side(named)


def _show_side_by_side(named: dict[str, EvaluatedModel]) -> None:
    from tttkit.analyze.dynamic import dynamic_differences
    from tttkit.analyze.models import differences, paired, side_by_side

    summaries: list[tuple[str, Summary]] = [(name, result.summary) for name, result in named.items()]
    first, reference = summaries[0]
    for name, summary in summaries[1:]:
        different = differences(reference, summary)
        if different:
            text = f"{name} cannot be compared with {first}: {', '.join(different)} differ"
            err.print(f"[warning]{escape(text)}[/]", soft_wrap=True)
        if summary.get("tokenizer_sha256") != reference.get("tokenizer_sha256"):
            text = f"{name} and {first} have different tokenizers: compare bits/byte, which does not depend on them"
            err.print(f"[warning]{escape(text)}[/]", soft_wrap=True)
    for row in dynamic_differences([summary for _, summary in summaries], list(named)):
        err.print(f"[warning]{escape(row['because'])}[/]", soft_wrap=True)
    print_table(models_table(side_by_side(summaries)), num_keys=2)
    rows = paired(summaries, [result.directory for result in named.values()])
    if rows:
        print_table(ratios_table(rows, first), num_keys=2)
