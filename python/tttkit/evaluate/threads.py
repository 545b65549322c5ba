"""CPU threads of an evaluation: chosen by a short measurement, and kept when a killed evaluation continues."""

from __future__ import annotations

from pathlib import Path

import torch

from tttkit.device import choose_num_threads, threads_of_environment
from tttkit.errors import DataError
from tttkit.models.scoring import ScoringModel
from tttkit.run.threads import ThreadChoice
from tttkit.storage import files

_FILE_NAME = "threads.json"
_TOKENS = 2048
"""Approximate number of tokens in a measured forward pass."""


def choose_for_evaluation(model: ScoringModel, *, window: int, blocks: Path) -> ThreadChoice | None:
    """Set torch's number of threads for an evaluation and return the choice; on a GPU return None and change nothing.

    The first of these decides: OMP_NUM_THREADS, the number that an earlier process recorded in `blocks` (the directory
    of unfinished results), or a measurement of forward passes over windows of `window` tokens.
    """
    if model.device.type != "cpu":
        return None
    if (given := threads_of_environment()) is not None:
        return given
    file = blocks / _FILE_NAME
    try:
        choice = ThreadChoice.from_dict(files.read_json(file))
    # the file does not exist yet, or it is damaged
    except (DataError, KeyError, TypeError, ValueError):
        choice = _measure(model, window)
        files.write_json(file, choice.to_dict())
    torch.set_num_threads(choice.num_threads)
    return choice


def record_threads(blocks: Path, choice: ThreadChoice) -> None:
    """Record the choice with which blocks are computed, so that the evaluation names it."""
    files.write_json(blocks / _FILE_NAME, choice.to_dict())


def _measure(model: ScoringModel, window: int) -> ThreadChoice:
    """Time forward passes over about `_TOKENS` tokens in windows."""
    shape = (max(1, _TOKENS // window), window + 1)
    windows = torch.randint(0, model.vocab_size, shape, generator=torch.Generator().manual_seed(0))

    def step() -> None:
        with torch.inference_mode():
            model.score(windows, window)

    return choose_num_threads(step, tokens_per_step=shape[0] * window)
