"""`tttkit recall`: measure what models remember of a text that they have read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tttkit.errors import UsageError
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table
from tttkit_cli.eval_targets import names_of, targets_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tttkit.evaluate.request import EvaluationJob, EvaluationRequest

_SECOND_COPY = "second-copy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question:
    """What the models are asked."""

    task: str
    distances: list[int] | None
    lengths: list[int] | None
    num_examples: int
    seed: int


def recall(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Model directories, as for `eval checkpoint`; or hf:NAME\\[@REVISION].", metavar="MODEL…"),
    ],
    task: Annotated[
        str, typer.Option(help="second-copy, or a task that the models were trained on: mqar, copy, …")
    ] = _SECOND_COPY,
    data: Annotated[
        Path | None,
        typer.Option(help="DATA directory (default: the data of the run that MODEL belongs to).", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to take text from.")] = "validation",
    window: Annotated[
        int | None, typer.Option(help="Window W (default: the training window).", min=1, show_default=False)
    ] = None,
    distances: Annotated[
        list[int] | None,
        typer.Option(
            "--distance",
            help="second-copy: tokens between the copies; may be repeated (default: 0, 1, 2, 5, 10 and 20 x W).",
            min=0,
            show_default=False,
        ),
    ] = None,
    lengths: Annotated[
        list[int] | None,
        typer.Option(
            "--length",
            help="Other tasks: tokens of an example; may be repeated (default: 1, 2, 5, 10 and 20 x W).",
            min=1,
            show_default=False,
        ),
    ] = None,
    num_examples: Annotated[int, typer.Option(help="Number of examples.", min=2)] = 64,
    seed: Annotated[int, typer.Option(help="Seed that chooses the examples.", min=0)] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="Output directory (default: recall_MODEL beside it).", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N (default: the GPU, if any).", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type in which a model computes: auto, fp32, bf16 or fp16.")] = "fp32",
    bos: Annotated[
        str, typer.Option(help="Whether the model's BOS stands in front of a text: auto, always or never.")
    ] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that is in the model's directory.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure what models remember: a passage that they have read before, or the answers of a synthetic task.

    Writes recall.json for each model, and one figure, recall.png.

    Examples: `tttkit recall runs/ttt/best_model runs/sw/best_model --num-examples 128` ·
    `tttkit recall runs/mqar/final_model --task mqar`
    """
    from tttkit.evaluate.request import EvaluationRequest

    requests = [
        EvaluationRequest(
            path=path, data=data, split=split, window=window, device=device, dtype=dtype, bos=bos,
            trust_remote_code=trust_remote_code, num_sequences=1,
        )
        for path in paths
    ]  # fmt: skip
    question = _Question(task=task, distances=distances, lengths=lengths, num_examples=num_examples, seed=seed)
    _check(question)
    names = names_of(paths)
    targets = targets_of(paths, output, "recall" if task == _SECOND_COPY else f"recall_{task}")
    results = [(name, _ask(question, request)) for name, request in zip(names, _checked(requests), strict=True)]
    _write(results, targets, (output or targets[0]) / "recall.png")
    if json_output:
        print_json(json_safe([result.to_dict() for _, result in results]))
    else:
        _show(question, results)


def _check(question: _Question) -> None:
    """Refuse a task that there is not, and options of another task. Raises UsageError."""
    from tttkit.data.tasks import TASKS

    if question.task not in (_SECOND_COPY, *TASKS):
        raise UsageError(f"unknown task `{question.task}`", hint=f"--task {', '.join((_SECOND_COPY, *TASKS))}")
    if question.task == _SECOND_COPY and question.lengths:
        raise UsageError("--length has no meaning for second-copy", hint="use --distance")
    if question.task != _SECOND_COPY and question.distances:
        raise UsageError(f"--distance has no meaning for {question.task}", hint="use --length")


def _checked(requests: list[EvaluationRequest]) -> list[EvaluationRequest]:
    """Return the requests after all of them were checked, before any model is loaded."""
    from tttkit.evaluate.request import check_request

    for request in requests:
        check_request(request)
    return requests


def _ask(question: _Question, request: EvaluationRequest) -> Any:
    """Return the results of one model."""
    from tttkit.device import find_device, prepare_device
    from tttkit.evaluate.request import prepare
    from tttkit_cli.stopping import stoppable
    from tttkit_cli.views.eval_progress import EvaluationProgress

    device = find_device(request.device)
    prepare_device(device)
    job = prepare(request)
    job.model.to(device)
    with stoppable(), EvaluationProgress(request.path, "asking") as progress:
        return _measure(question, job, progress.update)


def _measure(question: _Question, job: EvaluationJob, progress: Callable[[float], None]) -> Any:
    common: dict[str, Any] = {"num_examples": question.num_examples, "seed": question.seed, "progress": progress}
    if question.task == _SECOND_COPY:
        from tttkit.recall import second_copy

        distances = question.distances or [multiple * job.window for multiple in second_copy.MULTIPLES]
        return second_copy.measure(job, distances=sorted(set(distances)), **common)
    from tttkit.recall import synthetic

    lengths = question.lengths or [multiple * job.window for multiple in synthetic.MULTIPLES]
    return synthetic.measure(job, question.task, lengths=sorted(set(lengths)), **common)


def _write(results: list[tuple[str, Any]], targets: list[Path], figure: Path) -> None:
    from tttkit.report.figures.accuracy import plot_accuracy
    from tttkit.report.figures.recall import plot_recall
    from tttkit.results.recall import RECALL_NAME, Recall

    for (_, result), target in zip(results, targets, strict=True):
        result.write(target / RECALL_NAME)
        err.print(f"wrote {target / RECALL_NAME}", markup=False, soft_wrap=True)
    draw = plot_recall if isinstance(results[0][1], Recall) else plot_accuracy
    err.print(f"wrote {draw(results, figure)}", markup=False, soft_wrap=True)


def _show(question: _Question, results: list[tuple[str, Any]]) -> None:
    from tttkit_cli.views.recall import accuracy_table, recall_table

    if question.task == _SECOND_COPY:
        print_table(recall_table(results), num_keys=2)
    else:
        print_table(accuracy_table(results), num_keys=2)
