"""One optimizer update over batch_size x grad_accumulation windows, applied only if all its numbers are finite.

The device itself decides whether to apply an update, so a GPU never waits for the host: the caller reads results of
updates when it wants them, and in between a whole update is one CUDA graph (`graph.py`). On a CPU, and with initial
states other than zero, results are read after every update. Shapes: R windows of one update, b windows that go through
the model at once, W window length.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from tttkit.config.run import Config, TrainConfig
from tttkit.data.split import Split
from tttkit.data.synthetic.vocabulary import is_answer
from tttkit.distributed.data_parallel import data_parallel, without_average
from tttkit.distributed.ranks import Ranks
from tttkit.distributed.sharded import set_average, whole
from tttkit.errors import DeviceMemoryError
from tttkit.models import LanguageModel, compiled
from tttkit.train.batches.feed import Feed
from tttkit.train.graph import StepGraph
from tttkit.train.optim import set_learning_rate

_MIN_COMPILED_FLOP = 5e13
"""FLOP of a run on a CPU above which compiling saves time: five minutes on two cores, at least a sixth saved."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Update:
    """The result of one update: mean loss over all tokens, gradient norm before clipping, whether it was applied."""

    step: int
    learning_rate: float
    loss: float
    grad_norm: float
    applied: bool
    seconds: float
    """Mean over the updates that were read together."""

    @property
    def numbers(self) -> str:
        """The numbers as text, naming what was not finite."""
        what = ", recurrent state not finite" if math.isfinite(self.loss + self.grad_norm) else ""
        return f"loss {self.loss}, gradient norm {self.grad_norm}{what}"


class Updater:
    """Reads the windows of a step, accumulates their gradients, clips once and runs the optimizer."""

    def __init__(
        self,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        split: Split,
        config: Config,
        device: torch.device,
        *,
        auto_microbatch: bool,
        ranks: Ranks | None = None,
        whole_model: Callable[[], LanguageModel] | None = None,
    ) -> None:
        """Take a model that is on the device already; without `ranks` this process is alone.

        `whole_model` returns a model with all weights if `model` is sharded.
        """
        self._ranks = ranks or Ranks()
        is_alone = not self._ranks.world.is_distributed
        self.micro_batch = 0
        """Windows of `train.window` that go through the model at once: `train.micro_batch` or its default, fewer after
        memory ran out."""
        self.own_seconds: float | None = None
        """Seconds of the last update until it waited for the gradients of the other ranks."""
        self._model = model
        self._run = compiled(model, enabled=_may_compile(model, config.train))
        self._is_sharded = config.train.parallel == "fsdp" and not is_alone
        self._forward = self._run if is_alone or self._is_sharded else data_parallel(self._run)
        self._optimizer = optimizer
        self._config = config
        self._device = device
        self._auto_microbatch = auto_microbatch
        self.feed = Feed(model, split, config.train, self._ranks, whole_model)
        self._num_batches = config.train.num_batches(self._ranks.world.size)
        self._has_answers = config.data.has_answers
        # answers differ in number from update to update, so their update cannot be one graph
        self._reads_at_once = device.type == "cpu" or self._has_answers
        self._unread: list[tuple[int, float, torch.Tensor]] = []
        self._started = self._began = 0.0
        self.restart(None)

    @property
    def how(self) -> str:
        """Whether the model runs compiled or eager, and why, in one line."""
        return self._run.reason

    def restart(self, micro_batch: int | None) -> None:
        """Forget unread updates, after weights and moments were restored; None restores the usual micro-batch."""
        train = self._config.train
        # ranks meet in collectives, so none may repeat an update with smaller micro-batches, or record it as a graph
        is_alone = not self._ranks.world.is_distributed
        whole = train.batch_size * (self._num_batches if is_alone and self._device.type != "cpu" else 1)
        self.micro_batch = micro_batch or train.micro_batch or whole
        self._unread = []
        self._graph = StepGraph(self._compute, enabled=is_alone and not self._reads_at_once)

    def run(self, step: int, learning_rate: float, between: Callable[[], None], *, read: bool = True) -> list[Update]:
        """Run update `step` (from 1); call `between` before each micro-batch, which may raise to stop.

        Return the unread updates if `read` is set or the device waits for the host anyway, otherwise an empty list.
        Raises DeviceMemoryError if the device's memory does not hold the micro-batch.
        """
        if not self._unread:
            self._started = time.perf_counter()
        self._began = time.monotonic()
        self._model.train()
        set_learning_rate(self._optimizer, learning_rate)
        windows = self.feed.windows(step)
        # Initial states follow from the last update, so the host must know whether it was applied.
        if self._reads_at_once or self.feed.has_states:
            read = True
            self._graph.forget()
            result = self._apply(self._gradients(step, windows, between))
        elif self._graph.is_ready(windows):
            between()
            result = self._graph(windows)
        else:
            with self._graph.warm_up():
                result = self._apply(self._gradients(step, windows, between))
        self._unread.append((step, learning_rate, result))
        return self.read() if read else []

    def read(self) -> list[Update]:
        """Wait for the device and return the updates since the last call, in order."""
        unread, self._unread = self._unread, []
        if not unread:
            return []
        values = torch.stack([result for *_, result in unread]).tolist()
        seconds = (time.perf_counter() - self._started) / len(unread)
        updates = []
        for (step, learning_rate, _), (loss, grad_norm, finite_or_nan) in zip(unread, values, strict=True):
            applied = all(math.isfinite(value) for value in (loss, grad_norm, finite_or_nan))
            # Only the last verdict applies to states: earlier ones belong to updates that began from zero.
            self.feed.end_update(applied=applied)
            updates.append(
                Update(
                    step=step, learning_rate=learning_rate, loss=loss, grad_norm=grad_norm, applied=applied,
                    seconds=seconds,
                )
            )  # fmt: skip
        return updates

    def _compute(self, windows: torch.Tensor) -> torch.Tensor:
        """Run a whole update over all its windows without the host; return what `_apply` returns."""
        return self._apply(self._accumulate(windows, lambda: None))

    def _apply(self, loss: torch.Tensor) -> torch.Tensor:
        """Clip, run the optimizer if all is finite, and return loss, gradient norm, and 0 or NaN for the states."""
        limit = self._config.optimizer.max_grad_norm or math.inf
        grad_norm = whole(torch.nn.utils.clip_grad_norm_(self._model.parameters(), limit))
        finite_or_nan = torch.zeros_like(loss) + self.feed.finite_or_nan()
        if self._ranks.world.is_distributed:
            loss, finite_or_nan = self._ranks.sum(torch.stack((loss / self._ranks.world.size, finite_or_nan)))
        result = torch.stack((loss, grad_norm.double(), finite_or_nan))
        if self._is_sharded:  # sharded tensors cannot be mixed with a flag on the device, so the host decides
            if bool(result.isfinite().all()):
                self._optimizer.step()
        else:
            # the fused kernel leaves weights and moments unchanged if this is 1
            self._optimizer.found_inf = (~result.isfinite().all()).float()  # type: ignore[attr-defined]
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return result

    def _gradients(self, step: int, windows: torch.Tensor, between: Callable[[], None]) -> torch.Tensor:
        """Accumulate the gradients of a step; if memory runs out, repeat it with a smaller micro-batch if allowed."""
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
            # outside of `except`, because the traceback holds the tensors
            self.micro_batch = batch if self.micro_batch > batch else (self.micro_batch + 1) // 2
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            # initial states begin the update again
            windows = self.feed.windows(step)

    def _accumulate(self, windows: torch.Tensor, between: Callable[[], None]) -> torch.Tensor:
        """Add the gradients of all windows (R, W+1), a micro-batch at a time; return the mean loss, float64."""
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        at_once = self.micro_batch > self._config.train.batch_size
        batches = [windows] if at_once else windows.chunk(self._num_batches)
        parts = [part for batch in batches for part in torch.split(batch, self._windows_at_once())]
        for index, part in enumerate(parts):
            between()
            is_last = index == len(parts) - 1
            if self._is_sharded:
                set_average(self._model, is_last=is_last)
            with without_average(self._forward, is_last=is_last):
                loss += self._backward(part.to(self._device, non_blocking=True), len(part) / len(windows))
        return loss

    def _backward(self, batch: torch.Tensor, share: float) -> torch.Tensor:
        """Add the gradients of some windows (b, W+1); return their share of the loss, float64, detached."""
        inputs, targets = batch[:, :-1], batch[:, 1:]
        state = self.feed.initial_state(len(batch))
        with self._autocast():
            if self._has_answers:
                loss = self._forward(inputs, targets=targets, scored=is_answer(batch))
            elif state is None:
                loss = self._forward(inputs, targets=targets)
            else:
                loss, after = self._forward(inputs, targets=targets, state=state)
                self.feed.keep_state(after)
            loss = loss * share
        self.own_seconds = time.monotonic() - self._began
        loss.backward()
        return loss.detach().double()  # type: ignore[no-any-return]

    def _windows_at_once(self) -> int:
        """Return how many windows of this stage have as many tokens as a micro-batch of `train.window` windows."""
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


def _may_compile(model: LanguageModel, config: TrainConfig) -> bool | None:
    """Return whether to compile if possible; None leaves the choice to the device."""
    if config.compile is not None or model.device.type != "cpu":
        return config.compile
    tokens = config.max_steps * config.tokens_per_step
    return 6.0 * tokens * sum(parameter.numel() for parameter in model.parameters()) >= _MIN_COMPILED_FLOP


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a torch error means that memory ran out; on a CPU this error has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
