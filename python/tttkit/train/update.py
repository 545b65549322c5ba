"""One optimizer update over batch_size x grad_accumulation windows, applied only when all its numbers are finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional

from tttkit.config import Config
from tttkit.data.split import Split
from tttkit.errors import DeviceMemoryError
from tttkit.models import LanguageModel
from tttkit.train.feed import Feed
from tttkit.train.optim import set_learning_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """What one update came to: mean loss over all tokens, gradient norm before clipping, whether it was applied."""

    loss: float
    grad_norm: float
    applied: bool


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
        self.micro_batch = config.train.batch_size
        """Windows that go through the model at once; fewer than a batch after memory ran out."""
        self._model = model
        self._optimizer = optimizer
        self._config = config
        self._device = device
        self._auto_microbatch = auto_microbatch
        self.feed = Feed(model, split, config.train)

    def run(self, step: int, rate: float, between: Callable[[], None]) -> Update:
        """Update `step` (from 1) at learning rate `rate`; `between` is called before each micro-batch, may raise.

        Raises DeviceMemoryError when the device's memory does not hold the micro-batch.
        """
        self._model.train()
        loss = self._gradients(step, between)
        set_learning_rate(self._optimizer, rate)
        limit = self._config.optimizer.max_grad_norm or math.inf
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self._model.parameters(), limit))
        applied = math.isfinite(loss) and math.isfinite(grad_norm) and self.feed.is_finite()
        self.feed.settle(applied=applied)
        if applied:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return Update(loss=loss, grad_norm=grad_norm, applied=applied)

    def _gradients(self, step: int, between: Callable[[], None]) -> float:
        """Accumulate the gradients of a step, again with half the micro-batch where memory ran out and that helps."""
        while True:
            try:
                return self._accumulate(step, between)
            except (RuntimeError, MemoryError) as error:
                self._optimizer.zero_grad(set_to_none=True)
                if not is_out_of_memory(error):
                    raise
                if not self._auto_microbatch or self.micro_batch == 1:
                    raise self._memory_error(step) from error
            except BaseException:
                self._optimizer.zero_grad(set_to_none=True)
                raise
            self.micro_batch = (self.micro_batch + 1) // 2  # outside of `except`, whose traceback holds the tensors
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _accumulate(self, step: int, between: Callable[[], None]) -> float:
        train = self._config.train
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        windows = self.feed.windows(step)
        for batch in windows.chunk(train.grad_accumulation):  # (B, W+1)
            for part in torch.split(batch, self._windows_at_once()):
                between()
                share = len(part) / len(windows)
                loss += self._backward(part.to(self._device, non_blocking=True), share)
        return float(loss)

    def _backward(self, batch: torch.Tensor, share: float) -> torch.Tensor:
        """Add the gradients of some windows (b, W+1); returns their share of the loss, float64, detached."""
        with self._autocast():
            logits = self.feed.logits(batch[:, :-1])  # (b, W, V)
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten()) * share
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
