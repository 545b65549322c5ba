"""A whole update as one CUDA graph: the host starts it with one call and waits for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UP_CALLS = 3
"""Real updates before recording: they compile, choose algorithms and make the moments."""


class StepGraph:
    """Records a function of one tensor, anew for another shape, and replays it; the function must not ask the host.

    Everything it reads beside its argument must stay where it is in memory. Without CUDA nothing is ever recorded.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], *, enabled: bool) -> None:
        """Record nothing yet. `enabled` False never does."""
        self._function = function
        self._stream: torch.cuda.Stream | None = None
        if enabled and torch.cuda.is_available():
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._num_waiting = WARM_UP_CALLS
        self._shape = torch.Size()
        self._inputs = torch.empty(0)
        self._outputs = torch.empty(0)

    def is_ready(self, inputs: torch.Tensor) -> bool:
        """Whether to call this now; asked once before each call of the function, the first few of which go without."""
        if inputs.shape != self._shape:
            self._shape, self._graph, self._num_waiting = inputs.shape, None, WARM_UP_CALLS
        if self._num_waiting:
            self._num_waiting -= 1
            return False
        return self._stream is not None

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Calls of the function that go without belong in here: on the stream that records, as CUDA asks."""
        if self._stream is None:
            yield
            return
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            usual.wait_stream(self._stream)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the function gives for `inputs`, which may be on the CPU; the result is the caller's own."""
        if self._graph is None:
            self._record(inputs)
        assert self._graph is not None
        self._inputs.copy_(inputs.pin_memory(), non_blocking=True)
        self._graph.replay()
        return self._outputs.clone()

    def forget(self) -> None:
        """Give the memory of a recording back; the next calls warm up again."""
        self._graph, self._shape = None, torch.Size()

    def _record(self, inputs: torch.Tensor) -> None:
        """Recording runs nothing: the update is not done yet."""
        self._inputs = inputs.cuda()
        graph = torch.cuda.CUDAGraph()
        # this thread alone: meanwhile the one that reads ahead may ask for pinned memory
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._outputs = self._function(self._inputs)
        self._graph = graph
