"""Evaluate one model directory by the full protocol: reuse known results, keep partial work, write the results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tttkit.device import find_device, prepare_device
from tttkit.errors import DataError
from tttkit.evaluate.blocks import NllBlocks, measuring, share_of
from tttkit.evaluate.dynamic import DynamicRule, dynamic_rule
from tttkit.evaluate.evaluation import Evaluation, write_evaluation
from tttkit.evaluate.measure import evaluate_model
from tttkit.evaluate.plan import costs
from tttkit.evaluate.request import EvaluationJob, EvaluationRequest, prepare
from tttkit.evaluate.threads import choose_for_evaluation
from tttkit.evaluate.whole_split import WholeSplit, nll_by_slot, score_split
from tttkit.results.contexts import evaluation_order
from tttkit.results.curves import CURVES_NAME, Curves
from tttkit.results.summary import SUMMARY_NAME, Summary
from tttkit.results.values import SEQUENCES_NAME
from tttkit.run.threads import describe_threads
from tttkit.storage import files

_RESULTS = (SUMMARY_NAME, CURVES_NAME, SEQUENCES_NAME)

Progress = Callable[[float], None]
"""Called with the share done; may raise to stop."""
Draw = Callable[[Curves, Path], Path]
"""Draws curves into a directory and returns the file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """The results of one model directory."""

    summary: Summary
    directory: Path
    written: tuple[Path, ...] = ()
    """Files that were written; empty if the results were known before."""
    messages: tuple[str, ...] = ()
    """Messages for the user, one sentence each."""


def evaluate_model_directory(
    request: EvaluationRequest, directory: Path, *, progress: Progress | None = None, draw: Draw | None = None
) -> EvaluatedModel:
    """Evaluate one model directory into `directory`.

    Nothing is written if `directory` holds a summary of the same weights, data and protocol. If a neighboring
    directory holds one, its results are copied. A killed evaluation continues where it stopped. `draw` is called before
    summary.json is written, which makes the results known. Raises UsageError, DataError, NumericalError, DiskFullError,
    and RunLockedError while another evaluation writes to the same directory.
    """
    job = prepare(request)
    known = _known_summary(directory, job)
    if known is not None and not any(entry.name.startswith(".") for entry in directory.iterdir()):
        return EvaluatedModel(summary=known, directory=directory)
    device = find_device(request.device)
    prepare_device(device)
    job.model.to(device)
    with measuring(directory, job.key) as blocks:
        if known is not None:  # a process that was killed after it wrote the results left its blocks
            return EvaluatedModel(summary=known, directory=directory)
        neighbours = sorted(directory.parent.glob("eval_*"))
        twin = next((each for each in neighbours if _known_summary(each, job) is not None), None)
        if twin is not None:
            return _copy_results(twin, directory, job.facts, draw)
        return _measure(job, directory, blocks, progress, draw)


def _measure(
    job: EvaluationJob, directory: Path, blocks: NllBlocks, progress: Progress | None, draw: Draw | None
) -> EvaluatedModel:
    """Evaluate in every context, then score the whole split; write the results."""
    started = time.perf_counter()
    threads = choose_for_evaluation(job.model, window=job.window, blocks=blocks.path)
    size = job.model.mini_batch_size
    requested = () if job.dynamic is None else ("dynamic",)
    tokens = sum(costs(job.protocol, job.window, size, requested).values())
    share = tokens / (tokens + job.split.num_tokens)
    share_of(progress, 0.0, share)(0.0)
    evaluation, whole = measure_blocks(job, blocks, progress, share)
    facts = {
        **job.facts,
        **({} if threads is None else {"threads": threads.to_dict()}),
        "eval_seconds": time.perf_counter() - started,
        "mini_batch_size": size,
        "whole_split": whole.to_dict(),
        "nll_by_slot": {context: nll_by_slot(nll, size, job.window) for context, nll in evaluation.nll.items()},
    }
    plots: list[Path] = []

    def plot(curves: Curves) -> None:
        plots.extend([] if draw is None else [draw(curves, directory)])

    threads_message = (describe_threads(threads.to_dict()),) if threads and threads.tokens_per_second else ()
    summary = write_evaluation(directory, evaluation, facts, before_summary=plot)
    return EvaluatedModel(
        summary=summary, directory=directory, written=(*_result_files(directory), *plots),
        messages=(*job.messages, *threads_message),
    )  # fmt: skip


def measure_blocks(
    job: EvaluationJob, blocks: NllBlocks, progress: Progress | None = None, share: float = 0.5
) -> tuple[Evaluation, WholeSplit]:
    """Evaluate in every context, then score the whole split, with finished parts in `blocks`.

    The contexts are the given share of the progress.
    """
    evaluation = evaluate_model(
        job.model,
        job.split,
        job.protocol,
        window=job.window,
        bos=job.bos,
        dynamic=_dynamic_rule(job),
        progress=share_of(progress, 0.0, share),
        blocks=blocks,
    )
    whole = score_split(
        job.model,
        job.split,
        stride=job.window,
        bos=job.bos,
        progress=share_of(progress, share, 1 - share),
        blocks=blocks,
    )
    return evaluation, whole


def has_results(directory: Path, job: EvaluationJob) -> bool:
    """Whether `directory` holds the complete results of a job."""
    return _known_summary(directory, job) is not None


def _dynamic_rule(job: EvaluationJob) -> DynamicRule | None:
    """Return the rule of the context `dynamic`, if it is asked for."""
    return None if job.dynamic is None else dynamic_rule(job.model, job.dynamic, job.training, job.split.eos_id)


def _copy_results(twin: Path, directory: Path, facts: Mapping[str, Any], draw: Draw | None) -> EvaluatedModel:
    """Copy results of the same weights, data and protocol, for example if final_model is the same as best_model."""
    for name in (SEQUENCES_NAME, CURVES_NAME):
        files.write_bytes(directory / name, (twin / name).read_bytes())
    plots = [] if draw is None else [draw(Curves.read(directory / CURVES_NAME), directory)]
    summary = Summary({**Summary.read(twin / SUMMARY_NAME).to_dict(), **facts})
    summary.write(directory / SUMMARY_NAME)
    message = f"{facts['path']} has the weights of an earlier evaluation, whose results were copied: {twin}"
    written = (*_result_files(directory), *plots)
    return EvaluatedModel(summary=summary, directory=directory, written=written, messages=(message,))


def _result_files(directory: Path) -> list[Path]:
    return [directory / name for name in _RESULTS]


def _known_summary(directory: Path, job: EvaluationJob) -> Summary | None:
    """Return the summary in `directory` if it has the key and the contexts of a job, and its files are complete.

    It may have been measured in `dynamic` although the job does not ask for that, but not by other settings.
    """
    if not all(path.exists() for path in _result_files(directory)):
        return None
    try:
        summary = Summary.read(directory / SUMMARY_NAME)
    except DataError:
        return None
    requested = () if job.dynamic is None else ("dynamic",)
    is_complete = all(summary.has_context(name) for name in evaluation_order(requested))
    same_settings = job.dynamic is None or summary.get("dynamic") == dataclasses.asdict(job.dynamic)
    return summary if is_complete and same_settings and summary.get("evaluation_key") == job.key else None
