"""Measure prefill and decoding by context length: constant for a TTT model, slower for attention, whose cache grows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor

from tttkit.device import choose_num_threads, threads_of_environment
from tttkit.infer.decoder import SEGMENT_TOKENS
from tttkit.models import LanguageModel
from tttkit.models.generation import DecodingState, GenerativeModel
from tttkit.run.threads import ThreadChoice

_COPIES = 2
"""A state, and the copy of it that a round continues."""
_PROBE_TOKENS = (4, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceSpeed:
    """The speed of one model after one context. Seconds by the clock are medians, those of the processor the least."""

    name: str
    num_parameters: int
    batch_size: int
    context: int
    """Tokens of each row that the model has read before."""
    first_token_seconds: float
    """Time from the context to the first new token, measured once."""
    first_token_cpu_seconds: float
    """Processor time of the same, over all threads."""
    seconds_per_token: float
    """Time of a decoding step, which gives every row a token."""
    cpu_seconds_per_token: float
    """Processor time of a step, over all threads; other programs change it little."""
    state_bytes: int
    """Bytes of the recurrent state or the cache after the context."""
    weight_bytes: int

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all rows together."""
        return self.batch_size / self.seconds_per_token

    @property
    def prefill_tokens_per_second(self) -> float:
        """Tokens of the contexts of all rows together."""
        return self.batch_size * self.context / self.first_token_seconds

    def to_dict(self) -> dict[str, float | int | str]:
        """Return all fields and the speeds, for JSON."""
        speeds = {name: getattr(self, name) for name in ("tokens_per_second", "prefill_tokens_per_second")}
        return {**dataclasses.asdict(self), **speeds}


@torch.inference_mode()
def choose_threads_for_decoding(model: GenerativeModel, *, num_tokens: int = 8) -> ThreadChoice | None:
    """Set torch's number of CPU threads by timing the decoding of a few tokens, and return the choice.

    On a GPU, or if OMP_NUM_THREADS is set, return None and change nothing.
    """
    if model.device.type != "cpu" or threads_of_environment() is not None:
        return None
    tokens = _random_ids(model, 1, num_tokens)
    return choose_num_threads(lambda: _decode(model, tokens, model.initial_state(1)), tokens_per_step=num_tokens)


def measure_inference(
    models: Mapping[str, GenerativeModel],
    contexts: Sequence[int],
    *,
    batch_sizes: Sequence[int] = (1,),
    num_tokens: int,
    rounds: int,
    free_bytes: int | None = None,
) -> Iterator[InferenceSpeed]:
    """Yield the speed of each model by name, batch size and context.

    For each batch size and context all models read their context; then each round decodes `num_tokens` tokens with
    every model in turn. A model whose positions end before that is left out, and so is one whose states do not fit in
    `free_bytes` with those of the models before it; None means no limit.
    """
    for batch_size in batch_sizes:
        for context in contexts:
            able = {name: model for name, model in models.items() if can_read(model, context + num_tokens)}
            for name in beyond_memory(able, batch_size, context + num_tokens, free_bytes):
                del able[name]
            yield from _measure(able, batch_size, context, num_tokens=num_tokens, rounds=rounds)


def beyond_memory(
    models: Mapping[str, GenerativeModel], batch_size: int, num_tokens: int, free_bytes: int | None
) -> dict[str, int]:
    """Return by name the bytes of the states that would not fit after those of the models before them."""
    if free_bytes is None:
        return {}
    left, beyond = free_bytes, {}
    for name, model in models.items():
        needed = decoding_bytes(model, batch_size, num_tokens)
        if needed > left:
            beyond[name] = needed
        else:
            left -= needed
    return beyond


@torch.inference_mode()
def decoding_bytes(model: GenerativeModel, batch_size: int, num_tokens: int) -> int:
    """Return about how many bytes the state after `num_tokens` tokens of each row needs, with a copy of it.

    Our models know it. For others a state is measured after two short texts and grows in proportion.
    """
    if isinstance(model, LanguageModel):
        return _COPIES * model.state_bytes(batch_size, num_tokens)
    short, long = (
        _decode(model, _random_ids(model, 1, length), model.initial_state(1), size=length).num_bytes
        for length in _PROBE_TOKENS
    )
    growth = (long - short) / (_PROBE_TOKENS[1] - _PROBE_TOKENS[0])
    return int(_COPIES * batch_size * (short + growth * max(0, num_tokens - _PROBE_TOKENS[0])))


def can_read(model: GenerativeModel, num_tokens: int) -> bool:
    """Return whether the positions of a model reach `num_tokens`."""
    return model.max_positions is None or num_tokens <= model.max_positions


@torch.inference_mode()
def _measure(
    models: Mapping[str, GenerativeModel], batch_size: int, context: int, *, num_tokens: int, rounds: int
) -> list[InferenceSpeed]:
    states: dict[str, DecodingState] = {}
    first: dict[str, tuple[float, float]] = {}
    for name, model in models.items():
        clock = _Clock(model)
        states[name] = _decode(model, _random_ids(model, batch_size, context), model.initial_state(batch_size),
                               size=max(1, SEGMENT_TOKENS // batch_size))  # fmt: skip
        first[name] = clock.seconds()
    steps: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            tokens, state = _random_ids(model, batch_size, num_tokens), states[name].forked()
            clock = _Clock(model)
            _decode(model, tokens, state)
            steps[name].append(clock.seconds())
    return [
        InferenceSpeed(
            name=name,
            num_parameters=sum(each.numel() for each in model.module.parameters()),
            batch_size=batch_size,
            context=context,
            first_token_seconds=first[name][0],
            first_token_cpu_seconds=first[name][1],
            seconds_per_token=median(by_clock for by_clock, _ in steps[name]) / num_tokens,
            cpu_seconds_per_token=min(of_processor for _, of_processor in steps[name]) / num_tokens,
            state_bytes=states[name].num_bytes,
            weight_bytes=sum(each.numel() * each.element_size() for each in model.module.parameters()),
        )
        for name, model in models.items()
    ]


def _decode(model: GenerativeModel, ids: Tensor, state: DecodingState, *, size: int = 1) -> DecodingState:
    """Read ids (B, L), `size` of each row at a time, with the head after each part; return the state after them."""
    for part in torch.split(ids, size, dim=1):
        logits, state = model.next_logits(part, state)
        logits.argmax(-1)
    return state


def _random_ids(model: GenerativeModel, batch_size: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(0, model.vocab_size, (batch_size, length), generator=generator).to(model.device)


class _Clock:
    """Measures seconds by the clock and of the processor, after all work of the model's device is done."""

    def __init__(self, model: GenerativeModel) -> None:
        self._device = model.device
        self._start = self._now()

    def seconds(self) -> tuple[float, float]:
        """Return both since the start."""
        by_clock, of_processor = self._now()
        return by_clock - self._start[0], of_processor - self._start[1]

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()
