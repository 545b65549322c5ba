"""`tttkit diagnose`: measure why models hold up past their window or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table
from tttkit_cli.eval_targets import names_of, targets_of
from tttkit_cli.measured import say_measured
from tttkit_cli.model_options import Data, Device, Json, Models, RemoteCode, Split, Window, output_option
from tttkit_cli.stopping import stoppable
from tttkit_cli.views.diagnose import cost_of, diagnosis_table
from tttkit_cli.views.eval_progress import EvaluationProgress

if TYPE_CHECKING:
    from tttkit.diagnose.directory import DiagnosedModel
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.results.diagnose import Diagnosis

MaxLength = Annotated[int | None, typer.Option(help="Length T of a text (default: 20 x W).", min=2, show_default=False)]
Sequences = Annotated[
    int | None, typer.Option(help="Number of texts (default: 16, if the split holds them).", min=1, show_default=False)
]
Evaluator = Annotated[
    Path | None,
    typer.Option(
        help="Model that chooses the key tokens (default: the first MODEL with full attention).", show_default=False
    ),
]


def diagnose(
    paths: Models,
    data: Data = None,
    split: Split = "validation",
    window: Window = None,
    max_length: MaxLength = None,
    num_sequences: Sequences = None,
    evaluator: Evaluator = None,
    output: Annotated[Path | None, output_option("diagnose_MODEL beside it")] = None,
    device: Device = None,
    trust_remote_code: RemoteCode = False,
    json_output: Json = False,
) -> None:
    """Measure by position why models hold up past their window or not: state, inner loss, memory, key tokens.

    Says first how long it takes and how much memory it needs. Writes diagnose.json and diagnose.png for each model.

    Example: `tttkit diagnose runs/ttt/best_model --evaluator runs/transformer/best_model`
    """
    from tttkit.evaluate.request import EvaluationRequest

    names, targets = names_of(paths), targets_of(paths, output, "diagnose")
    requests = [
        EvaluationRequest(
            path=path, data=data, split=split, window=window, max_length=max_length, num_sequences=num_sequences,
            device=device, trust_remote_code=trust_remote_code,
        )
        for path in paths
    ]  # fmt: skip
    _check(requests, evaluator)
    with stoppable():
        chosen = evaluator or _first_with_full_attention(requests)
        results = [_diagnose(request, target, chosen) for request, target in zip(requests, targets, strict=True)]
    if json_output:
        print_json(json_safe([result.diagnosis.to_dict() for result in results]))
        return
    for name, result in zip(names, results, strict=True):
        print_table(diagnosis_table(name, result.diagnosis))
        for part, reason in result.diagnosis.left_out.items():
            err.print(escape(f"{name}, {part.replace('_', ' ')}: {reason}"), soft_wrap=True)


def _check(requests: list[EvaluationRequest], evaluator: Path | None) -> None:
    """Refuse what does not fit together, before the first model is diagnosed."""
    from tttkit.diagnose.directory import evaluator_request
    from tttkit.evaluate.request import check_request

    for request in requests:
        check_request(request)
        if evaluator is not None:
            check_request(evaluator_request(request, evaluator, request.window or 1))


def _first_with_full_attention(requests: list[EvaluationRequest]) -> Path | None:
    from tttkit.models import load_scoring_model

    for request in requests:
        if load_scoring_model(request.path, trust_remote_code=request.trust_remote_code).sees_whole_past:
            return request.path
    return None


def _diagnose(request: EvaluationRequest, target: Path, evaluator: Path | None) -> DiagnosedModel:
    """Diagnose one model with a progress bar, and say what it costs and what was written."""
    from tttkit.diagnose.directory import diagnose_model_directory

    with EvaluationProgress(request.path) as progress:
        result = diagnose_model_directory(
            request, target, evaluator=evaluator, progress=progress.update, draw=_draw,
            announce=lambda plan: err.print(escape(f"{request.path}: {cost_of(plan)}"), soft_wrap=True),
        )  # fmt: skip
    say_measured(request.path, result, "diagnosed")
    return result


def _draw(diagnosis: Diagnosis, path: Path) -> Path:
    from tttkit.report.figures.diagnose import plot_diagnosis

    return plot_diagnosis(diagnosis, path)
