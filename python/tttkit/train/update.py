"""One optimizer update over batch_size x grad_accumulation windows, applied only when all its numbers are finite.

The device decides that by itself, so that a GPU never waits for the host: what updates came to is read when the caller
wants it, and in between a whole update is one CUDA graph (`graph.py`). A CPU is read after every update, as lanes are.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from tttkit.config.run import Config
from tttkit.data.split import Split
from tttkit.errors import DeviceMemoryError
from tttkit.models import LanguageModel
from tttkit.train.batches.feed import Feed
from tttkit.train.graph import StepGraph
from tttkit.train.optim import set_learning_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """What one update came to: mean loss over all tokens, gradient norm before clipping, whether it was applied."""

    step: int
    rate: float
    loss: float
    grad_norm: float
    applied: bool
    seconds: float
    """A mean over the updates that were read together."""

    @property
    def numbers(self) -> str:
        """What was or was not finite."""
        what = ", carried fast weights not finite" if math.isfinite(self.loss + self.grad_norm) else ""
        return f"loss {self.loss}, gradient norm {self.grad_norm}{what}"


class Updater:
    """Draws the windows of a step, accumulates their gradients, clips once and lets the optimizer step."""

    def __init__(
        self,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        split: Split,
        config: Config,
        device: torch.device,
        *,
        auto_microbatch: bool,
    ) -> None:
        """The model is on the device already."""
        self.micro_batch = 0
        """Windows that go through the model at once: of a CPU a batch, of a GPU all, fewer after memory ran out."""
        self._model = model
        self._optimizer = optimizer
        self._config = config
        self._device = device
        self._auto_microbatch = auto_microbatch
        self.feed = Feed(model, split, config.train)
        self._reads_at_once = device.type == "cpu"
        self._unread: list[tuple[int, float, torch.Tensor]] = []
        self._started = 0.0
        self.restart(None)

    def restart(self, micro_batch: int | None) -> None:
        """Weights and moments were put in place: forget what is not read. None is the usual micro-batch."""
        train = self._config.train
        whole = train.batch_size if self._device.type == "cpu" else train.batch_size * train.grad_accumulation
        self.micro_batch = micro_batch or whole
        self._unread = []
        self._graph = StepGraph(self._compute, enabled=not self._reads_at_once)

    def run(self, step: int, rate: float, between: Callable[[], None], *, read: bool = True) -> list[Update]:
        """Update `step` (from 1) at learning rate `rate`; `between` is called before each micro-batch, may raise.

        Returns the updates that were not read before, where `read` asks for them or the device does not go on alone.
        Raises DeviceMemoryError when the device's memory does not hold the micro-batch.
        """
        if not self._unread:
            self._started = time.perf_counter()
        self._model.train()
        set_learning_rate(self._optimizer, rate)
        windows = self.feed.windows(step)
        if self._reads_at_once or self.feed.in_lanes:  # lanes go on from what was applied
            read = True
            self._graph.forget()
            found = self._apply(self._gradients(step, windows, between))
        elif self._graph.is_ready(windows):
            between()
            found = self._graph(windows)
        else:
            with self._graph.warm_up():
                found = self._apply(self._gradients(step, windows, between))
        self._unread.append((step, rate, found))
        return self.read() if read else []

    def read(self) -> list[Update]:
        """What the updates since the last call came to, in order; waits for the device."""
        unread, self._unread = self._unread, []
        if not unread:
            return []
        values = torch.stack([found for *_, found in unread]).tolist()
        seconds = (time.perf_counter() - self._started) / len(unread)
        updates = []
        for (step, rate, _), (loss, grad_norm, carried) in zip(unread, values, strict=True):
            applied = all(math.isfinite(value) for value in (loss, grad_norm, carried))
            # of lanes the last word counts: what was read late before their first update is settled with it
            self.feed.settle(applied=applied)
            updates.append(
                Update(step=step, rate=rate, loss=loss, grad_norm=grad_norm, applied=applied, seconds=seconds)
            )
        return updates

    def _compute(self, windows: torch.Tensor) -> torch.Tensor:
        """A whole update from all its windows, without a word from the host: what `_apply` gives."""
        return self._apply(self._accumulate(windows, lambda: None))

    def _apply(self, loss: torch.Tensor) -> torch.Tensor:
        """Clip, and let the optimizer step where all is finite: loss, gradient norm, and 0 or a NaN of the lanes."""
        limit = self._config.optimizer.max_grad_norm or math.inf
        grad_norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), limit)
        carried = torch.zeros_like(loss) + self.feed.health()
        found = torch.stack((loss, grad_norm.double(), carried))
        # the fused kernel leaves weights and moments alone where this is 1
        self._optimizer.found_inf = (~found.isfinite().all()).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return found

    def _gradients(self, step: int, windows: torch.Tensor, between: Callable[[], None]) -> torch.Tensor:
        """Accumulate the gradients of a step, again with a smaller micro-batch where memory ran out and that helps."""
        batch = self._config.train.batch_size
        while True:
            try:
                return self._accumulate(windows, between)
            except (RuntimeError, MemoryError) as error:
                self._optimizer.zero_grad(set_to_none=True)
                if not is_out_of_memory(error):
                    raise
                if self.micro_batch <= batch and (not self._auto_microbatch or self.micro_batch == 1):
                    raise self._memory_error(step) from error
            except BaseException:
                self._optimizer.zero_grad(set_to_none=True)
                raise
            # outside of `except`, whose traceback holds the tensors
            self.micro_batch = batch if self.micro_batch > batch else (self.micro_batch + 1) // 2
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            windows = self.feed.windows(step)  # lanes begin again

    def _accumulate(self, windows: torch.Tensor, between: Callable[[], None]) -> torch.Tensor:
        """Add the gradients of all windows (R, W+1), a micro-batch at a time; returns the mean loss, float64."""
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        at_once = self.micro_batch > self._config.train.batch_size
        for batch in [windows] if at_once else windows.chunk(self._config.train.grad_accumulation):
            for part in torch.split(batch, self._windows_at_once()):
                between()
                loss += self._backward(part.to(self._device, non_blocking=True), len(part) / len(windows))
        return loss

    def _backward(self, batch: torch.Tensor, share: float) -> torch.Tensor:
        """Add the gradients of some windows (b, W+1); returns their share of the loss, float64, detached."""
        with self._autocast():
            loss = self._model.loss(self.feed.hidden(batch[:, :-1]), batch[:, 1:]) * share
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().double()

    def _windows_at_once(self) -> int:
        """As many tokens as a micro-batch of windows of train.window, in windows of this stage."""
        return max(1, self.micro_batch * self._config.train.window // self.feed.window)

    def _memory_error(self, step: int) -> DeviceMemoryError:
        train = self._config.train
        size = f"{self._windows_at_once()} windows of W={self.feed.window}"
        half, double = max(1, train.batch_size // 2), 2 * train.grad_accumulation
        options = [f"--batch-size {half} --grad-accumulation {double} (the same update)", "--auto-microbatch"]
        if train.precision != "bf16":
            options.insert(1, "--precision bf16")
        return DeviceMemoryError(
            f"out of memory on {self._device} in step {step}, with {size} at once{self._peak()}",
            hint=f"try {', or '.join(options)}",
        )

    def _peak(self) -> str:
        if self._device.type != "cuda":
            return ""
        return f", peak {torch.cuda.max_memory_allocated(self._device) / 1e9:.1f} GB"

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._config.train.precision == "bf16":
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return nullcontext()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, which has no class of its own on a CPU, says that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
