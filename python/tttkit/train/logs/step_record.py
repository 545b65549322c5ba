"""What metrics.jsonl says of a step."""

from __future__ import annotations

import math
from typing import Any

import torch

from tttkit.config.run import Config
from tttkit.train.batches.feed import Feed
from tttkit.train.logs.pace import Pace
from tttkit.train.logs.utilization import Utilization
from tttkit.train.resume.progress import Progress
from tttkit.train.update import Update


class StepRecords:
    """Makes the records of a run, from what updates came to and how fast they are."""

    def __init__(self, config: Config, device: torch.device, feed: Feed, pace: Pace) -> None:
        """Measure the peak of a GPU, which takes milliseconds."""
        self._config = config
        self._feed = feed
        self._pace = pace
        self._still: set[int] = set()
        self._utilization = Utilization(feed.flops_per_step, precision=config.train.precision, device=device)

    def record(self, update: Update, progress: Progress) -> dict[str, Any]:
        """The record of the step that `progress` is at."""
        tokens_per_step, seconds = self._config.train.tokens_per_step, self._pace.step_seconds
        record = {
            "step": progress.step,
            "loss": update.loss,
            "ppl": math.exp(min(update.loss, 700.0)),
            "lr": update.learning_rate,
            "grad_norm": update.grad_norm,
            "tokens_seen": progress.step * tokens_per_step,
            "tokens_per_second": tokens_per_step / seconds,
            "num_skipped": progress.num_skipped,
            "eta_seconds": self._pace.eta_seconds(progress.step),
            **self._utilization.record(seconds),
        }
        if self._config.train.stages:
            record["window"] = self._feed.window
        if progress.step % self._config.train.inner_loss_every == 0:
            record |= self._feed.diagnostics()
        return record

    def warning(self, record: dict[str, Any]) -> str | None:
        """What to tell the user of a record: once of each layer whose fast weights move no more."""
        still = {layer for layer, norm in enumerate(record.get("fast_weight_norm", [])) if norm == 0} - self._still
        if not still:
            return None
        self._still |= still
        names = ", ".join(str(layer) for layer in sorted(still))
        return (
            f"layer {names} keeps nothing from one mini-batch to the next: its last position factor, "
            f"1/C + learnable_token_idx, has reached 0, where no gradient moves it any more"
        )
