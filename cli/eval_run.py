"""`tttkit eval run`: evaluate what a run lacks, and measure what its models remember."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tttkit.config.dynamic import DynamicConfig
from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory, find_run
from tttkit.run.lock import exclusive
from tttkit_cli.console import err, warn
from tttkit_cli.dynamic_options import with_dynamic_options
from tttkit_cli.engine import Engine
from tttkit_cli.evaluated import Summaries, compute_blocks_of, evaluate_with_progress, show_evaluations
from tttkit_cli.model_options import Device
from tttkit_cli.recall_models import Named, measure_models, show_recall
from tttkit_cli.stopping import stoppable

if TYPE_CHECKING:
    from tttkit.config.run import Config
    from tttkit.evaluate.model_directory import EvaluatedModel

Recall = Annotated[
    bool,
    typer.Option(
        "--recall",
        help="Measure too what best_model and final_model remember: second-copy, or the task of the run. For a "
        "synthetic task, measure only the answers of final_model.",
    ),
]


@with_dynamic_options
def run(
    path: Annotated[
        Path | None, typer.Argument(help="RUN directory (default: the newest under runs/).", metavar="RUN")
    ] = None,
    device: Device = None,
    dynamic: DynamicConfig | None = None,
    with_recall: Recall = False,
    engine: Engine = "local",
    json_output: Summaries = False,
) -> None:
    """Evaluate best_model and final_model in full, and evaluations along the run that have weights but no results.

    Example: `tttkit eval run runs/quick`
    """
    from tttkit.config.run import build_config
    from tttkit.data.synthetic.tasks import TASKS

    directory = find_run(path)
    with exclusive(directory, warn), stoppable():
        config = build_config(directory.read_metadata().get("config", {}))
        task = config.data.task
        only_task = with_recall and task in TASKS
        named = {} if only_task else _evaluate(directory, config, device, dynamic, engine)
        if only_task:
            err.print(
                f"{directory.path} trains on {task}: only its answers are measured, because its perplexity is that of "
                "random tokens",
                markup=False, soft_wrap=True,
            )  # fmt: skip
        recalled = _recall(directory, device, task) if with_recall else []
    if named:
        show_evaluations(named, json_output=json_output)
    if recalled and (only_task or not json_output):
        show_recall(recalled, json_output=json_output)


def _evaluate(
    directory: RunDirectory, config: Config, device: str | None, dynamic: DynamicConfig | None, engine: str
) -> dict[str, EvaluatedModel]:
    """Compute the evaluations that the run lacks, and return their results by name."""
    from tttkit.evaluate.run_evaluations import complete_summaries, missing_evaluations

    requests = missing_evaluations(directory, config, device, dynamic)
    if not requests:
        raise UsageError(
            f"{directory.path} has no weights to evaluate",
            hint="the first evaluation writes best_model; --keep-weights keeps the weights of every evaluation",
        )
    compute_blocks_of(engine, requests)
    named = {
        (target if request.path.name == "model" else request.path).name: evaluate_with_progress(request, target)
        for request, target in requests
    }
    complete_summaries(directory)
    return named


def _recall(run: RunDirectory, device: str | None, task: str | None) -> Named:
    """Measure the task that a run trains on, or second-copy, on its models.

    The best model of a synthetic task was chosen by the perplexity of random tokens, so its last one is measured.
    """
    from tttkit.data.synthetic.tasks import TASKS
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.recall.directory import RecallSettings

    settings = RecallSettings() if task is None else RecallSettings(task=task)
    models = [run.final_model] if task in TASKS else [run.best_model, run.final_model]
    paths = [path for path in models if path.is_dir()]
    if not paths:
        raise UsageError(f"{run.path} has no final_model yet", hint="the end of the training writes it")
    return measure_models([EvaluationRequest(path=path, device=device) for path in paths], settings)
