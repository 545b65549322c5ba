"""Measure the quality of one model directory: reuse known results, keep finished blocks, write quality.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tttkit.device import find_device, prepare_device
from tttkit.evaluate.blocks import measuring
from tttkit.evaluate.request import EvaluationRequest, data_directory, prepare
from tttkit.evaluate.threads import choose_for_evaluation
from tttkit.quality.measure import Settings, Writer
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


@torch.inference_mode()
def measure_model_directory(
    request: EvaluationRequest,
    directory: Path,
    *,
    judge: Path | None = None,
    lengths: Sequence[int] | None = None,
    num_prompts: int = 32,
    max_tokens: int = 128,
    seed: int = 0,
    announce: Callable[[float, int], None] = lambda *_: None,
    progress: Callable[[float], None] | None = None,
) -> MeasuredModel:
    """Measure the quality of one model into `directory`; nothing is measured if it holds the same results already.

    `lengths` are those of the prompts in tokens, 1, 5 and 20 x W by default. `announce` gets seconds and bytes before
    the measurement starts. Raises UsageError, DataError, NumericalError, DiskFullError, and RunLockedError while
    another process writes there.
    """
    job = prepare(dataclasses.replace(request, num_sequences=1))
    judging = None if judge is None else prepare(judge_request(request, judge, job.window))
    device = find_device(request.device)
    prepare_device(device)
    for each in (job, *((judging,) if judging else ())):
        each.model.to(device)
    wanted = sorted(set(lengths or [multiple * job.window for multiple in MULTIPLES]))
    settings = Settings(lengths=tuple(wanted), num_prompts=num_prompts, max_tokens=max_tokens, seed=seed)
    writer = Writer(job, settings, judging)
    known = read_known(Quality.read, directory / QUALITY_NAME, "quality_key", writer.key)
    if known is not None:
        return MeasuredModel(quality=known)
    with measuring(directory, writer.key) as blocks:
        choose_for_evaluation(job.model, window=job.window, blocks=blocks.path)
        announce(*writer.plan())
        quality = writer.run(blocks, progress)
        quality.write(directory / QUALITY_NAME)
    return MeasuredModel(quality=quality, written=(directory / QUALITY_NAME,))


def judge_request(request: EvaluationRequest, judge: Path, window: int) -> EvaluationRequest:
    """Return the request that reads the model that scores the continuations, on the same data."""
    return dataclasses.replace(request, path=judge, data=data_directory(request), window=window, num_sequences=1)
