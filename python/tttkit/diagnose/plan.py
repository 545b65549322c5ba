"""What a diagnosis costs: the seconds of each part, from short measurements, and the memory that it needs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from tttkit.diagnose.effective_memory import grid_tokens
from tttkit.diagnose.key_tokens import SHORT_COST
from tttkit.diagnose.states import along, layers_with_memory
from tttkit.evaluate.memory import batch_tokens, head_positions
from tttkit.models import LanguageModel
from tttkit.models.scoring import ScoringModel

PARTS = ("nll", "reference", "state", "memory", "key_tokens")
"""Parts of a diagnosis, in the order in which they run."""
_FLOAT = 4
_PROBE_SEGMENTS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much a diagnosis reads."""

    window: int
    max_length: int
    num_sequences: int
    stride: int
    """Tokens between two positions at which the state is measured."""
    positions: list[int]
    """Positions of the labels, at which the effective memory is measured."""
    num_windows: int
    """Training windows of the reference; 0 without a reference."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Estimated cost."""

    seconds: dict[str, float]
    """Seconds of each part; 0 for a part that is left out."""
    num_bytes: int
    """Peak memory beyond the weights."""

    @property
    def total_seconds(self) -> float:
        """Estimated seconds of all parts."""
        return sum(self.seconds.values())

    def share(self, part: str, progress: Callable[[float], None] | None) -> Callable[[float], None]:
        """Return a callback for the progress within one part."""
        total = max(self.total_seconds, 1e-9)
        start = sum(self.seconds[name] for name in PARTS[: PARTS.index(part)])
        return lambda done: None if progress is None else progress((start + done * self.seconds[part]) / total)


def plan(model: ScoringModel, evaluator: ScoringModel | None, sizes: Sizes) -> Plan:
    """Measure the speed of the models for a moment, and estimate what a diagnosis of these sizes costs."""
    per_token = _seconds_per_token(model, sizes.window)
    seconds = dict.fromkeys(PARTS, 0.0)
    seconds["nll"] = per_token * sizes.num_sequences * sizes.max_length
    seconds["memory"] = per_token * sizes.num_sequences * grid_tokens(sizes.positions, model.mini_batch_size)
    seconds["reference"] = per_token * sizes.num_windows * sizes.window
    if isinstance(model, LanguageModel) and layers_with_memory(model):
        segments = sizes.num_sequences * sizes.max_length // sizes.stride
        seconds["state"] = segments * _seconds_per_segment(model, sizes.stride)
    if evaluator is not None:
        cost = _seconds_per_token(evaluator, sizes.window) * sizes.num_sequences * sizes.max_length
        seconds["key_tokens"] = cost * (1 + SHORT_COST)
    readers = [model] if evaluator is None else [model, evaluator]
    return Plan(seconds=seconds, num_bytes=max(_pass_bytes(each, sizes) for each in readers) + _num_bytes(model, sizes))


def _pass_bytes(model: ScoringModel, sizes: Sizes) -> int:
    """Return the bytes of a batch of tokens with its logits."""
    batch = min(batch_tokens(model.bytes_per_token(), model.device), sizes.num_sequences * sizes.max_length)
    logits = 2 * _FLOAT * model.vocab_size * min(batch, head_positions(model.vocab_size, model.device))
    return batch * model.bytes_per_token() + logits


def _num_bytes(model: ScoringModel, sizes: Sizes) -> int:
    """Return the bytes of the states of the reference, and of predictions."""
    predictions = 4 * _FLOAT * sizes.num_sequences * model.vocab_size
    states = 0
    if isinstance(model, LanguageModel):
        one = model.state_bytes(1)
        # sums and squares in float64, mean and deviation in float32, and the states of a batch with their copies
        states = 6 * one + 3 * one * reference_rows(model, sizes)
    return predictions + states


def reference_rows(model: LanguageModel, sizes: Sizes) -> int:
    """Return how many training windows are read at once: as many as have states of 64 MB."""
    return max(1, min(32, sizes.num_windows, (64 << 20) // max(1, model.state_bytes(1))))


def _seconds_per_token(model: ScoringModel, window: int) -> float:
    rows = max(1, 2048 // window)
    ids = torch.randint(0, model.vocab_size, (rows, window + 1), generator=torch.Generator().manual_seed(0))
    ids = ids.to(model.device)
    with torch.inference_mode():
        return _fastest(lambda: model.score(ids, window).sum().item()) / (rows * window)


def _seconds_per_segment(model: LanguageModel, stride: int) -> float:
    tokens = np.zeros(_PROBE_SEGMENTS * stride, dtype=np.int64)
    return _fastest(lambda: along(model, tokens, stride, None, lambda _: None)) / _PROBE_SEGMENTS


def _fastest(run: Callable[[], object]) -> float:
    """Return the seconds of the faster of two runs; the first one also warms up."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
