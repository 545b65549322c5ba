"""Training speed: forward and backward of a model compared with its peers, and the parts of a whole step.

The peers are the Transformer of the same size, for Gated DeltaNet and Mamba-2 the model of `transformers` of the same
kind and size if that is installed, and, if a path to its code is given, the official implementation, which needs
`transformers` and starts from the same weights. Every round runs each model once, and the results are medians
over the rounds, so that a slow moment of the machine affects all models alike. Shapes: B windows, W window length.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tttkit.config.model import ModelConfig
from tttkit.config.run import OptimizerConfig
from tttkit.device import choose_num_threads
from tttkit.models import build_model
from tttkit.train.graph import WARM_UP_CALLS, StepGraph
from tttkit.train.logs.utilization import peak_flop_per_second, synchronize
from tttkit.train.optim import build_optimizer
from tttkit.train.runners import Runner, make_runners, our_runner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """One measured model; seconds are medians over the rounds, for forward and backward of one batch."""

    name: str
    num_parameters: int
    seconds: float
    ratio: float
    """Median over the rounds of this model's seconds divided by the first model's seconds."""
    loss: float
    how: str
    """Whether it runs compiled or eager, and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSpeed:
    """The result of `measure_training`. Seconds are medians."""

    contestants: list[Contestant]
    step_seconds: float
    """A whole step of the first model, as the trainer runs it: one CUDA graph on a GPU."""
    parts: dict[str, float]
    """Seconds of the parts of a step, run one after another without a graph: forward, backward, clip, optimizer."""
    tokens_per_step: int
    flop_per_step: float
    peak_flop_per_second: float
    """Speed of a square matrix product in the same precision, measured in the same run."""
    peak_memory_bytes: int
    device: str
    num_threads: int
    threads: dict[str, Any] | None
    """How the number of threads was chosen (`ThreadChoice.to_dict`); None if the caller chose it, and on a GPU."""

    @property
    def mfu(self) -> float:
        """Floating-point operations of a step divided by the number that the peak speed allows in the same time."""
        return self.flop_per_step / self.step_seconds / self.peak_flop_per_second


def measure_training(
    config: ModelConfig,
    *,
    window: int,
    batch_size: int,
    rounds: int,
    device: torch.device,
    precision: str,
    compile_blocks: bool,
    official: Path | None = None,
    choose_threads: bool = False,
) -> TrainSpeed:
    """Measure a step of `batch_size` windows. Raises UsageError if the official code cannot be loaded.

    `choose_threads` first chooses the number of CPU threads by timing the uncompiled model with several numbers.
    """
    ids = torch.randint(0, config.vocab_size, (batch_size, window + 1), generator=torch.Generator().manual_seed(0))
    model = build_model(config, seed=0).to(device)
    threads = None
    if choose_threads and device.type == "cpu":
        eager = our_runner(model, compile_blocks=False)
        threads = choose_num_threads(lambda: _pass(eager, ids, precision), tokens_per_step=batch_size * window)
    runners = make_runners(model, compile_blocks=compile_blocks, official=official)
    contestants = _contestants(runners, ids.to(device), precision, rounds, device)
    # frees the memory of the peers
    del runners[1:]
    optimizer = build_optimizer(model, OptimizerConfig())
    return TrainSpeed(
        contestants=contestants,
        parts=_parts(runners[0], optimizer, ids.to(device), precision, rounds, device),
        step_seconds=_step_seconds(runners[0], optimizer, ids, precision, rounds, device),
        tokens_per_step=batch_size * window,
        flop_per_step=batch_size * window * model.flops_per_token(window),
        peak_flop_per_second=peak_flop_per_second(device, precision, rounds=rounds),
        peak_memory_bytes=_peak_memory(device),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        num_threads=torch.get_num_threads(),
        threads=None if threads is None else threads.to_dict(),
    )


def _contestants(
    runners: list[Runner], ids: Tensor, precision: str, rounds: int, device: torch.device
) -> list[Contestant]:
    """Measure forward and backward of every runner once per round, after a first pass that compiles."""
    losses = [float(_pass(runner, ids, precision)) for runner in runners]
    seconds: list[list[float]] = [[] for _ in runners]
    for _ in range(rounds):
        for runner, times in zip(runners, seconds, strict=True):
            times.append(_clock(lambda runner=runner: _pass(runner, ids, precision), device))  # type: ignore[misc]
    return [
        Contestant(
            name=runner.name,
            num_parameters=sum(parameter.numel() for parameter in runner.module.parameters()),
            seconds=median(times),
            ratio=median(own / first for own, first in zip(times, seconds[0], strict=True)),
            loss=loss,
            how=runner.how,
        )
        for runner, times, loss in zip(runners, seconds, losses, strict=True)
    ]


def _loss(runner: Runner, ids: Tensor, precision: str) -> Tensor:
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        return runner.loss(ids)


def _pass(runner: Runner, ids: Tensor, precision: str) -> Tensor:
    loss = _loss(runner, ids, precision)
    loss.backward()  # type: ignore[no-untyped-call]
    runner.module.zero_grad(set_to_none=True)
    return loss.detach()


def _step_seconds(
    runner: Runner,
    optimizer: torch.optim.Optimizer,
    windows: Tensor,
    precision: str,
    rounds: int,
    device: torch.device,
) -> float:
    """Measure the seconds of a whole step, from windows on the CPU to new weights."""

    def step(windows: Tensor) -> Tensor:
        loss = _loss(runner, windows.to(device, non_blocking=True), precision)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(runner.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    graph = StepGraph(step, enabled=device.type == "cuda")

    def run() -> None:
        if graph.is_ready(windows):
            graph(windows)
        else:
            with graph.warm_up():
                step(windows)

    # the last call records the graph
    for _ in range(WARM_UP_CALLS + 1 if device.type == "cuda" else 0):
        run()
    return median(_clock(run, device) for _ in range(rounds))


def _parts(
    runner: Runner,
    optimizer: torch.optim.Optimizer,
    ids: Tensor,
    precision: str,
    rounds: int,
    device: torch.device,
) -> dict[str, float]:
    """Measure the seconds of each part of a step, one after another."""
    seconds_of: dict[str, list[float]] = {"forward": [], "backward": [], "clip": [], "optimizer": []}
    for index in range(rounds + 1):
        losses: list[Tensor] = []
        actions: list[tuple[str, Callable[[], Any]]] = [
            ("forward", lambda losses=losses: losses.append(_loss(runner, ids, precision))),  # type: ignore[misc]
            ("backward", lambda losses=losses: losses[0].backward()),  # type: ignore[misc]
            ("clip", lambda: torch.nn.utils.clip_grad_norm_(runner.module.parameters(), 1.0)),
            ("optimizer", optimizer.step),
        ]
        for name, action in actions:
            seconds = _clock(action, device)
            # the first step allocates the optimizer's moments
            if index:
                seconds_of[name].append(seconds)
        optimizer.zero_grad(set_to_none=True)
    return {name: median(times) for name, times in seconds_of.items()}


def _clock(action: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - started


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
