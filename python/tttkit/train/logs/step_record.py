"""The record of a logged step, for metrics.jsonl and the screen."""

from __future__ import annotations

import math

import torch

from tttkit.config.run import Config
from tttkit.train.batches.feed import Feed
from tttkit.train.events import StepLogged
from tttkit.train.logs.pace import Pace
from tttkit.train.logs.utilization import Utilization
from tttkit.train.resume.progress import TrainingProgress
from tttkit.train.update import Update

_MAX_EXPONENT = 700.0
"""Loss at which the reported perplexity is capped, so that it fits in float64."""


class StepRecords:
    """Makes the records of a run from the results of its updates and their pace."""

    def __init__(self, config: Config, device: torch.device, feed: Feed, pace: Pace) -> None:
        """Measure the peak throughput of a GPU, which takes milliseconds."""
        self._config = config
        self._feed = feed
        self._pace = pace
        self._warned: set[int] = set()
        self._utilization = Utilization(feed.flops_per_step, precision=config.train.precision, device=device)

    def record(self, update: Update, progress: TrainingProgress) -> StepLogged:
        """Return the record of the current step, whose update is `update`."""
        tokens_per_step, seconds = self._config.train.tokens_per_step, self._pace.step_seconds
        is_inner_logged = progress.step % self._config.train.inner_loss_every == 0
        return StepLogged(
            step=progress.step,
            loss=update.loss,
            ppl=math.exp(min(update.loss, _MAX_EXPONENT)),
            learning_rate=update.learning_rate,
            grad_norm=update.grad_norm,
            tokens_seen=progress.tokens_seen,
            tokens_per_second=tokens_per_step / seconds,
            num_skipped=progress.num_skipped,
            eta_seconds=self._pace.eta_seconds(progress.step),
            utilization=self._utilization.record(seconds),
            window=self._feed.window if self._config.train.stages else None,
            inner=self._feed.diagnostics() if is_inner_logged else {},
        )

    def warning(self, event: StepLogged) -> str | None:
        """Return a warning about layers whose fast weights no longer change; each layer is named once per process."""
        norms = event.inner.get("fast_weight_norm", [])
        unchanged = {layer for layer, norm in enumerate(norms) if norm == 0} - self._warned
        if not unchanged:
            return None
        self._warned |= unchanged
        names = ", ".join(str(layer) for layer in sorted(unchanged))
        return (
            f"layer {names} keeps nothing from one mini-batch to the next: its last position factor, "
            f"1/C + learnable_token_idx, is 0, and its gradient there is 0 too"
        )
