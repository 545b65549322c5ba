"""`tttkit eval`: run the full protocol on model directories, or on the evaluations that a run lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tttkit.config.dynamic import DynamicConfig
from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory, exclusive, find_run
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table, room
from tttkit_cli.dynamic_options import with_dynamic_options
from tttkit_cli.eval_targets import names_of, targets_of, with_text
from tttkit_cli.model_options import Bos, Device, Dtype, RemoteCode
from tttkit_cli.stopping import stoppable
from tttkit_cli.tune_dynamic import tune_dynamic
from tttkit_cli.views.eval_progress import EvaluationProgress
from tttkit_cli.views.recall import recall_table
from tttkit_cli.views.tables import evaluation_table, models_table, ratios_table, slots_table, whole_split_table

if TYPE_CHECKING:
    from tttkit.evaluate.model_directory import EvaluatedModel
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.results.curves import Curves
    from tttkit.results.recall import Recall
    from tttkit.results.summary import Summary

Engine = Annotated[
    str,
    typer.Option(
        help="Where it is computed: `local`, or `ray` on the cluster that RAY_ADDRESS names, else on this machine."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")]

eval_app = typer.Typer(no_args_is_help=False, help="Measure perplexity by position, in every context.")


@eval_app.callback()
def _eval() -> None:
    """Measure perplexity by position, in every context."""


eval_app.command("tune-dynamic")(tune_dynamic)


@eval_app.command("checkpoint")
@with_dynamic_options
def checkpoint(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Model directories: of tttkit, official, or any Hugging Face causal model; or hf:NAME\\[@REVISION].",
            metavar="PATH…",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="DATA directory (default: the data of the run that PATH belongs to).", show_default=False),
    ] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            "--text",
            help="Text file to evaluate on in place of DATA, with each model's own tokenizer; may be repeated.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "validation",
    num_sequences: Annotated[
        int | None, typer.Option(help="Number of sequences (default: all of the split).", min=1, show_default=False)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Length T of a sequence (default: 20 x W).", min=2, show_default=False)
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Window W (default: the training window, else 64; needed for foreign models).",
            min=1,
            show_default=False,
        ),
    ] = None,
    sw_mode: Annotated[
        str,
        typer.Option(
            help="Compute the sliding window at all positions (`exact`) or only at labeled positions (`positions`)."
        ),
    ] = "exact",
    output: Annotated[
        Path | None, typer.Option("--out", help="Output directory (default: beside PATH).", show_default=False)
    ] = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    bos: Bos = "auto",
    trust_remote_code: RemoteCode = False,
    dynamic: DynamicConfig | None = None,
    engine: Engine = "local",
    json_output: Json = False,
) -> None:
    """Evaluate models in every context, with intervals; write JSON files and a plot.

    Several models are also compared in one table and one plot, `models.png`, in --out or beside the first model.
    Models of other tools need `pip install 'tttkit\\[hf]'`, --window, and data made with their tokenizer, or --text.

    Examples: `tttkit eval checkpoint runs/quick/best_model` ·
    `tttkit eval checkpoint runs/ttt/best_model runs/sw/best_model runs/transformer/best_model --max-length 6400`
    """
    from tttkit.evaluate.request import EvaluationRequest, check_request

    if texts and (data is not None or split != "validation"):
        raise UsageError("--text takes the place of --data and --split", hint="name one of them")
    with stoppable():
        requests = [
            EvaluationRequest(
                path=path, data=data, split=split, num_sequences=num_sequences, max_length=max_length, window=window,
                sw_mode=sw_mode, device=device, dtype=dtype, bos=bos, trust_remote_code=trust_remote_code,
                dynamic=dynamic,
            )
            for path in paths
        ]  # fmt: skip
        names, targets = names_of(paths), targets_of(paths, output)
        if texts:
            requests = [with_text(*pair, texts) for pair in zip(requests, targets, strict=True)]
        for request in requests:
            check_request(request)
        _compute_blocks(engine, list(zip(requests, targets, strict=True)))
        results = [_evaluate(*pair) for pair in zip(requests, targets, strict=True)]
    named = dict(zip(names, results, strict=True))
    if len(results) > 1:
        err.print(f"wrote [path]{escape(str(_plot_models(named, output or targets[0].parent)))}[/]", soft_wrap=True)
    _show(named, json_output=json_output)


@eval_app.command("run")
@with_dynamic_options
def run(
    path: Annotated[
        Path | None, typer.Argument(help="RUN directory (default: the newest under runs/).", metavar="RUN")
    ] = None,
    device: Device = None,
    dynamic: DynamicConfig | None = None,
    with_recall: Annotated[
        bool,
        typer.Option(
            "--recall",
            help="Measure too what best_model and final_model remember: the task of the run, or second-copy.",
        ),
    ] = False,
    engine: Engine = "local",
    json_output: Json = False,
) -> None:
    """Evaluate best_model and final_model in full, and evaluations along the run that have weights but no results.

    Example: `tttkit eval run runs/quick`
    """
    from tttkit.config.run import build_config
    from tttkit.evaluate.run_evaluations import complete_summaries, missing_evaluations

    directory = find_run(path)
    with exclusive(directory), stoppable():
        config = build_config(directory.read_metadata().get("config", {}))
        requests = missing_evaluations(directory, config, device, dynamic)
        if not requests:
            raise UsageError(
                f"{directory.path} has no weights to evaluate",
                hint="the first evaluation writes best_model; --keep-weights keeps the weights of every evaluation",
            )
        _compute_blocks(engine, requests)
        named = {
            (target if request.path.name == "model" else request.path).name: _evaluate(request, target)
            for request, target in requests
        }
        complete_summaries(directory)
        recalled = _recall(directory, device, config.data.task) if with_recall else []
    _show(named, json_output=json_output)
    if recalled and not json_output:
        print_table(recall_table(recalled), num_keys=2)


def _recall(run: RunDirectory, device: str | None, task: str | None) -> list[tuple[str, Recall]]:
    """Measure the task that a run trains on, or second-copy, on its models."""
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.recall.directory import RecallSettings
    from tttkit_cli.recall_models import measure_models

    settings = RecallSettings() if task is None else RecallSettings(task=task)
    paths = [path for path in (run.best_model, run.final_model) if path.is_dir()]
    return measure_models([EvaluationRequest(path=path, device=device) for path in paths], settings)


def _compute_blocks(engine: str, pairs: list[tuple[EvaluationRequest, Path]]) -> None:
    """With the engine ray, compute all parts of the evaluations on the cluster; `_evaluate` then reads them."""
    from tttkit.cluster.tasks import check_engine, connected

    check_engine(engine)
    if engine == "ray":
        with connected() as cluster, EvaluationProgress(Path("all models")) as progress:
            from tttkit.cluster.evaluations import compute_blocks

            compute_blocks(cluster, pairs, progress=progress.update)


def _evaluate(request: EvaluationRequest, target: Path) -> EvaluatedModel:
    """Evaluate one model with a progress bar, and say what was written."""
    from tttkit.evaluate.model_directory import evaluate_model_directory

    with EvaluationProgress(request.path) as progress:
        result = evaluate_model_directory(request, target, progress=progress.update, draw=_draw)
    for message in result.messages:
        err.print(escape(message), soft_wrap=True)
    if not result.written:
        text = f"[path]{escape(str(request.path))}[/]: evaluated before, same weights, data and protocol"
        err.print(text, soft_wrap=True)
    for file in result.written:
        err.print(f"wrote [path]{escape(str(file))}[/]", soft_wrap=True)
    return result


def _draw(curves: Curves, directory: Path) -> Path:
    from tttkit.report.figures.position import chunk_eval_name, plot_chunk_eval

    return plot_chunk_eval(curves, directory / chunk_eval_name(curves))


def _plot_models(named: dict[str, EvaluatedModel], directory: Path) -> Path:
    """Draw all models in one figure."""
    from tttkit.report.figures.models import MODELS_NAME, plot_models
    from tttkit.results.curves import CURVES_NAME, Curves

    curves = [(name, Curves.read(result.directory / CURVES_NAME)) for name, result in named.items()]
    return plot_models(curves, directory / f"{MODELS_NAME}.png")


def _show(named: dict[str, EvaluatedModel], *, json_output: bool) -> None:
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
