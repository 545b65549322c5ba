"""Measure decoding speed by context length: constant for a TTT model, falling for attention, whose cache grows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from tttkit.device import choose_num_threads, threads_of_environment
from tttkit.models import LanguageModel
from tttkit.models.state import ModelState
from tttkit.run.threads import ThreadChoice

_SEGMENT = 1024
"""Tokens of a context that the model reads at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeSpeed:
    """The speed of one model after one context. Seconds are medians."""

    name: str
    context: int
    """Tokens that the model has read before."""
    tokens_per_second: float
    """Speed of decoding one row, token by token."""
    prefill_tokens_per_second: float
    state_bytes: int
    """Bytes of the recurrent state or the cache after the context."""


@torch.inference_mode()
def choose_threads_for_decoding(model: LanguageModel, *, num_tokens: int = 8) -> ThreadChoice | None:
    """Set torch's number of CPU threads by timing the decoding of a few tokens, and return the choice.

    On a GPU, or if OMP_NUM_THREADS is set, return None and change nothing.
    """
    if model.device.type != "cpu" or threads_of_environment() is not None:
        return None
    tokens = _random_ids(model, num_tokens)

    def step() -> None:
        state = model.initial_state(1)
        for token in tokens.unbind(1):
            _, state = model.step(token[:, None], state)

    return choose_num_threads(step, tokens_per_step=num_tokens)


@torch.inference_mode()
def measure_decoding(
    models: dict[str, LanguageModel], contexts: Sequence[int], *, num_tokens: int, rounds: int
) -> list[DecodeSpeed]:
    """Read each context, then time `num_tokens` single tokens; every round runs all models and contexts in turn."""
    states: dict[tuple[str, int], ModelState] = {}
    prefill: dict[tuple[str, int], float] = {}
    seconds: dict[tuple[str, int], list[float]] = {}
    for name, model in models.items():
        for context in contexts:
            ids = _random_ids(model, context)
            started = _now(model)
            states[name, context] = _read(model, ids)
            prefill[name, context] = context / (_now(model) - started)
            seconds[name, context] = []
    for _ in range(rounds):
        for (name, context), state in states.items():
            model = models[name]
            tokens = _random_ids(model, num_tokens)
            started, current = _now(model), state
            for token in tokens.unbind(1):
                _, current = model.step(token[:, None], current)
            seconds[name, context].append((_now(model) - started) / num_tokens)
    return [
        DecodeSpeed(
            name=name,
            context=context,
            tokens_per_second=1 / median(times),
            prefill_tokens_per_second=prefill[name, context],
            state_bytes=states[name, context].num_bytes,
        )
        for (name, context), times in seconds.items()
    ]


def _read(model: LanguageModel, ids: Tensor) -> ModelState:
    """Read a context (1, L) in segments, run the head at its end, and return the state after it."""
    state = model.initial_state(1)
    for part in torch.split(ids, _SEGMENT, dim=1):
        hidden_states, state = model.advance(part, state)
    model.head(hidden_states[:, -1])
    return state


def _random_ids(model: LanguageModel, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(0, model.config.vocab_size, (1, length), generator=generator).to(model.device)


def _now(model: LanguageModel) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()
