"""Diagnose one model directory: reuse known results, keep finished parts, write diagnose.json and its figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tttkit.data import open_split
from tttkit.data.split import Split
from tttkit.device import find_device, prepare_device
from tttkit.diagnose.measure import Diagnoser
from tttkit.diagnose.plan import Plan
from tttkit.errors import DataError
from tttkit.evaluate.blocks import measuring
from tttkit.evaluate.request import TRAINING_SPLIT, EvaluationJob, EvaluationRequest, data_directory, prepare
from tttkit.evaluate.threads import choose_for_evaluation
from tttkit.results.diagnose import DIAGNOSE_NAME, FIGURE_NAME, Diagnosis
from tttkit.results.values import read_known


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnosedModel:
    """The results of one model directory."""

    diagnosis: Diagnosis
    written: tuple[Path, ...] = ()
    """Files that were written; empty if the results were known before."""
    messages: tuple[str, ...] = ()
    """Sentences for the user about model and data."""


def diagnose_model_directory(
    request: EvaluationRequest,
    directory: Path,
    *,
    evaluator: Path | None = None,
    announce: Callable[[Plan], None] = lambda _: None,
    progress: Callable[[float], None] | None = None,
    draw: Callable[[Diagnosis, Path], Path] | None = None,
) -> DiagnosedModel:
    """Diagnose one model into `directory`. Nothing is measured if it holds the same diagnosis already.

    `evaluator` is the model that chooses the key tokens. `announce` gets the cost before the measurement starts. Raises
    UsageError, DataError, NumericalError, DiskFullError, and RunLockedError while another process writes there.
    """
    job = _without_length(request)
    judge = None if evaluator is None else _without_length(evaluator_request(request, evaluator, job.window))
    device = find_device(request.device)
    prepare_device(device)
    for each in (job, *((judge,) if judge else ())):
        each.model.to(device)
    diagnoser = Diagnoser(
        job, training=training_split(request), evaluator=judge, max_length=request.max_length,
        num_sequences=request.num_sequences,
    )  # fmt: skip
    known = read_known(Diagnosis.read, directory / DIAGNOSE_NAME, "diagnose_key", diagnoser.key)
    if known is not None:
        return DiagnosedModel(diagnosis=known, messages=job.messages)
    with measuring(directory, diagnoser.key) as blocks:
        choose_for_evaluation(job.model, window=job.window, blocks=blocks.path)
        planned = diagnoser.plan()
        announce(planned)
        diagnosis = diagnoser.run(planned, blocks, progress)
        path = directory / DIAGNOSE_NAME
        drawn = () if draw is None else (draw(diagnosis, directory / FIGURE_NAME),)
        diagnosis.write(path)
    return DiagnosedModel(diagnosis=diagnosis, written=(path, *drawn), messages=job.messages)


def training_split(request: EvaluationRequest) -> Split | None:
    """Return the training split of the data of a request; None if there is none, or if it is the evaluated one."""
    if request.split == TRAINING_SPLIT:
        return None
    try:
        return open_split(data_directory(request), TRAINING_SPLIT)
    except DataError:
        return None


def _without_length(request: EvaluationRequest) -> EvaluationJob:
    """Prepare a request; its lengths are those of a diagnosis, which no protocol of an evaluation bounds."""
    return prepare(dataclasses.replace(request, num_sequences=1, max_length=None))


def evaluator_request(request: EvaluationRequest, evaluator: Path, window: int) -> EvaluationRequest:
    """Return the request that reads the model that chooses the key tokens, on the same data."""
    return dataclasses.replace(request, path=evaluator, data=data_directory(request), window=window)
