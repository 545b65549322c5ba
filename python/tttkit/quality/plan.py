"""What a measurement of quality costs: seconds and memory, from a short measurement of speed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tttkit.infer.decoder import Decoder
from tttkit.infer.sampling import Sampling
from tttkit.models.scoring import LoadedModel
from tttkit.quality.settings import Settings

_PROBE_TOKENS = 6
_LOGIT_BYTES = 8
_LOGIT_COPIES = 3
_SEGMENT_TOKENS = 2048
"""Tokens of a prompt that are read at once."""


def estimate(
    model: LoadedModel,
    texts: NDArray[np.int64],
    settings: Settings,
    lengths: Sequence[int],
    window: int,
    *,
    num_blocks: int,
) -> tuple[float, int]:
    """Return seconds and bytes of `num_blocks` blocks as large as `texts` (R, T), for each of the prompts' lengths."""
    prompts = [row[-window:].tolist() for row in texts]
    prefill, step = _speed(model, prompts)
    seconds = sum(num_blocks * (prefill * length + step * settings.max_tokens) for length in lengths)
    rows = len(prompts)
    _, state = model.next_logits(torch.tensor(prompts, device=model.device), model.initial_state(rows))
    grows = (max(lengths) + settings.max_tokens) / window if model.sees_whole_past else 1.0
    logits = _LOGIT_COPIES * _LOGIT_BYTES * rows * model.vocab_size
    return seconds, int(state.num_bytes * grows) + _SEGMENT_TOKENS * model.bytes_per_token() + logits


def _speed(model: LoadedModel, prompts: list[list[int]]) -> tuple[float, float]:
    """Return the seconds of a token of the prompts, all rows together, and of a step of decoding."""
    decoder = Decoder(model, prompts, Sampling(temperature=0), max_tokens=_PROBE_TOKENS)
    started = time.perf_counter()
    decoder.next_tokens()
    read = time.perf_counter()
    while decoder.next_tokens():
        pass
    step = (time.perf_counter() - read) / (_PROBE_TOKENS - 1)
    return (read - started) / len(prompts[0]), step
