"""Measure the quality of one model directory: reuse known results, keep finished blocks, write quality.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from tttkit.device import find_device, prepare_device
from tttkit.evaluate.blocks import measuring
from tttkit.evaluate.request import EvaluationRequest, data_directory, prepare
from tttkit.evaluate.threads import choose_for_evaluation
from tttkit.quality.measure import Writer
from tttkit.quality.settings import Settings
from tttkit.results.quality import QUALITY_NAME, Quality
from tttkit.results.values import read_known

MULTIPLES = (1, 5, 20)
"""The usual lengths of prompts, as multiples of the window W."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """The results of one model directory."""

    quality: Quality
    written: tuple[Path, ...] = ()
    """Files that were written; empty if the results were known before."""
    messages: tuple[str, ...] = ()
    """Sentences for the user about model and data."""


@torch.inference_mode()
def measure_model_directory(
    request: EvaluationRequest,
    directory: Path,
    settings: Settings,
    *,
    judge: Path | None = None,
    announce: Callable[[float, int], None] = lambda *_: None,
    progress: Callable[[float], None] | None = None,
) -> MeasuredModel:
    """Measure the quality of one model into `directory`; nothing is measured if it holds the same results already.

    The usual lengths of the prompts are 1, 5 and 20 x W. `judge` is the model that scores the continuations. `announce`
    gets seconds and bytes before the measurement starts. Raises UsageError, DataError, NumericalError, DiskFullError,
    and RunLockedError while another process writes there.
    """
    job = prepare(dataclasses.replace(request, num_sequences=1))
    judging = None if judge is None else prepare(judge_request(request, judge, job.window))
    device = find_device(request.device)
    prepare_device(device)
    for each in (job, *((judging,) if judging else ())):
        each.model.to(device)
    lengths = sorted(set(settings.lengths or [multiple * job.window for multiple in MULTIPLES]))
    writer = Writer(job, dataclasses.replace(settings, lengths=tuple(lengths)), judging)
    known = read_known(Quality.read, directory / QUALITY_NAME, "quality_key", writer.key)
    if known is not None:
        return MeasuredModel(quality=known, messages=job.messages)
    with measuring(directory, writer.key) as blocks:
        choose_for_evaluation(job.model, window=job.window, blocks=blocks.path)
        announce(*writer.plan())
        quality = writer.run(blocks, progress)
        quality.write(directory / QUALITY_NAME)
    return MeasuredModel(quality=quality, written=(directory / QUALITY_NAME,), messages=job.messages)


def judge_request(request: EvaluationRequest, judge: Path, window: int) -> EvaluationRequest:
    """Return the request that reads the model that scores the continuations, on the same data."""
    return dataclasses.replace(request, path=judge, data=data_directory(request), window=window, num_sequences=1)
