"""Recording and replaying a step, with a substitute for CUDA that computes on the CPU: no GPU is needed."""

from __future__ import annotations

import contextlib
import types

import pytest
import torch

from tttkit.train.graph import WARM_UP_CALLS, StepGraph


@pytest.fixture
def cuda(monkeypatch):
    """Replace CUDA: a graph runs the recorded function again; the result lists the calls of CUDA."""
    seen = types.SimpleNamespace(streams=[], waits=[], recordings=[], replays=0)
    usual = types.SimpleNamespace(wait_stream=lambda other: seen.waits.append(("usual", other)))
    side = types.SimpleNamespace(wait_stream=lambda other: seen.waits.append((other, "side")))

    @contextlib.contextmanager
    def stream(of):
        seen.streams.append(of)
        yield
        seen.streams.pop()

    @contextlib.contextmanager
    def record(graph, *, stream, capture_error_mode):
        seen.recordings.append((graph, stream is side, capture_error_mode))
        yield

    class Graph:
        def replay(self):
            assert self is seen.recordings[-1][0]
            seen.replays += 1
            step = seen.step
            step._outputs.copy_(step._function(step._inputs))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: usual)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: side)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self.clone())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    return seen


def call(step, value, size=2):
    """Return the output of a step for `value`, and whether a graph computed it."""
    inputs = torch.full((size,), value)
    if step.is_ready(inputs):
        return step(inputs), True
    with step.warm_up():
        return step._function(inputs), False


def test_the_first_steps_run_without_a_graph_and_the_rest_are_replayed(cuda):
    where = []
    step = cuda.step = StepGraph(lambda x: where.append(list(cuda.streams)) or 2 * x, enabled=True)
    outputs = [call(step, float(i)) for i in range(6)]
    assert [graphed for _, graphed in outputs] == [False] * WARM_UP_CALLS + [True] * (6 - WARM_UP_CALLS)
    assert [float(output[0]) for output, _ in outputs] == [0, 2, 4, 6, 8, 10], "results are the caller's own"
    assert cuda.replays == 6 - WARM_UP_CALLS
    assert [(same, mode) for _, same, mode in cuda.recordings] == [(True, "thread_local")]
    assert all(len(streams) == 1 for streams in where[:WARM_UP_CALLS]), "on the stream that records"
    assert [pair.count("side") + pair.count("usual") for pair in cuda.waits] == [1, 1] * WARM_UP_CALLS
    assert len(cuda.waits) == 2 * WARM_UP_CALLS


def test_another_shape_is_recorded_again(cuda):
    step = cuda.step = StepGraph(lambda x: x + 1, enabled=True)
    graphed = [call(step, 0.0, size)[1] for size in [2] * 5 + [3] * 5 + [2] * 4]
    assert graphed == [False] * 3 + [True] * 2 + [False] * 3 + [True] * 2 + [False] * 3 + [True]
    assert len(cuda.recordings) == 3


def test_a_forgotten_graph_is_recorded_again(cuda):
    step = cuda.step = StepGraph(lambda x: x + 1, enabled=True)
    before = [call(step, 0.0)[1] for _ in range(4)]
    step.forget()
    assert [call(step, 0.0)[1] for _ in range(4)] == before == [False] * 3 + [True]
    assert len(cuda.recordings) == 2


def test_a_stop_during_warm_up_leaves_the_streams_in_order(cuda):
    step = cuda.step = StepGraph(lambda x: x, enabled=True)
    with pytest.raises(KeyboardInterrupt), step.warm_up():
        raise KeyboardInterrupt
    assert len(cuda.waits) == 2


@pytest.mark.parametrize("enabled", [True, False])
def test_without_cuda_or_if_switched_off_nothing_is_recorded(enabled, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not enabled)
    step = StepGraph(lambda x: x, enabled=enabled)
    assert not any(call(step, 1.0)[1] for _ in range(6))
