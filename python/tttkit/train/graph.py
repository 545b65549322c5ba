"""A whole update as one CUDA graph: the host starts it with one call and does not wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UP_CALLS = 3
"""Real updates before recording: they compile, choose algorithms and allocate the optimizer's moments."""


class StepGraph:
    """Record a function of one tensor, once per shape, and replay it.

    The function must not synchronize with the host, and everything that it reads except its argument must keep its
    address in memory. Without CUDA nothing is recorded.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], *, enabled: bool) -> None:
        """Record nothing yet; with `enabled` False, never."""
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
        """Return whether to replay now; call it once per update. The first few updates must run the function itself."""
        if inputs.shape != self._shape:
            self._shape, self._graph, self._num_waiting = inputs.shape, None, WARM_UP_CALLS
        if self._num_waiting:
            self._num_waiting -= 1
            return False
        return self._stream is not None

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Run calls of the function itself inside this block: on the stream that records, as CUDA requires."""
        if self._stream is None:
            yield
            return
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the function's result for `inputs`, which may be on the CPU; the result is a copy."""
        if self._graph is None:
            self._record(inputs)
        assert self._graph is not None
        self._inputs.copy_(inputs.pin_memory(), non_blocking=True)
        self._graph.replay()
        return self._outputs.clone()

    def forget(self) -> None:
        """Release the memory of a recording; the next calls warm up again."""
        self._graph, self._shape = None, torch.Size()

    def _record(self, inputs: torch.Tensor) -> None:
        """Record the function; recording does not run it."""
        self._inputs = inputs.cuda()
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that reads ahead may allocate pinned memory meanwhile
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._outputs = self._function(self._inputs)
        self._graph = graph
