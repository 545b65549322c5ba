"""The events that a run reports while it trains. `to_dict` gives the JSON of `tttkit train --json`, `event` first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from tttkit.results.summary import Summary
from tttkit.train.batches.curriculum import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Base class of all events. Fields are in the order of the JSON object."""

    name: ClassVar[str]
    """Value of `event` in JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain values; floats that are not finite stay as they are."""
        return {"event": self.name, **dataclasses.asdict(self)}


Report = Callable[[Event], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Event):
    """The plan of the run, reported once before the first step."""

    name: ClassVar[str] = "plan"

    run: str
    """Path of the run directory."""
    model: str
    num_parameters: int
    train_tokens: int
    validation_tokens: int
    vocab_size: int
    window: int
    """Training window W in tokens."""
    stages: list[Stage]
    """Stages of the length curriculum; empty without one."""
    step: int
    """Updates already done, 0 for a new run."""
    tokens_seen: int
    """Tokens of these updates."""
    max_steps: int
    tokens_per_step: int
    evaluation_steps: list[int]
    num_evaluations_done: int
    num_evaluations_ahead: int
    eval_max_length: int
    eval_num_sequences: int
    device: str
    precision: str
    num_threads: int
    threads: dict[str, Any]
    """How the number of CPU threads was chosen: `chosen`, `why` and `measured` (tokens per second by number)."""
    seed: int
    version: str
    """Version of tttkit."""
    git_commit: str | None
    """Commit of the checkout that tttkit runs from; None for an installed package."""
    resumed: bool
    state_bytes: int
    """Size of one training checkpoint."""
    planned_bytes: int
    """Maximum number of bytes that the run will hold on disk at once."""
    free_bytes: int
    """Free bytes on the disk of the run directory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """A training checkpoint was verified and loaded."""

    name: ClassVar[str] = "resumed"

    step: int
    state: str
    """Name of the training checkpoint's directory."""
    num_bytes: int
    skipped: list[str]
    """Damaged training checkpoints that were newer, each with its fault."""
    num_steps_lost: int
    """Logged steps after the training checkpoint, which are computed again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepLogged(Event):
    """A logged step; without `event` it is a record of metrics.jsonl."""

    name: ClassVar[str] = "step"

    step: int
    loss: float
    """Mean cross-entropy of the update in nats per token."""
    ppl: float
    learning_rate: float
    """Called `lr` in JSON."""
    grad_norm: float
    """Global gradient norm before clipping."""
    tokens_seen: int
    tokens_per_second: float
    num_skipped: int
    """Updates of the run that were skipped because their numbers were not finite."""
    eta_seconds: float | None
    utilization: dict[str, float] = dataclasses.field(default_factory=dict)
    """Figures of the GPU, as far as known: `mfu`, `gpu_memory_used`, `gpu_memory_total`, `gpu_utilization`."""
    window: int | None = None
    """Training window of a run with stages."""
    inner: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Figures of the inner loop, at every `train.inner_loss_every`-th step of a TTT model."""

    def record(self) -> dict[str, Any]:
        """Return the record of metrics.jsonl, without its time."""
        return {
            "step": self.step,
            "loss": self.loss,
            "ppl": self.ppl,
            "lr": self.learning_rate,
            "grad_norm": self.grad_norm,
            "tokens_seen": self.tokens_seen,
            "tokens_per_second": self.tokens_per_second,
            "num_skipped": self.num_skipped,
            "eta_seconds": self.eta_seconds,
            **self.utilization,
            **({} if self.window is None else {"window": self.window}),
            **self.inner,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the record with `event` as its first key."""
        return {"event": self.name, **self.record()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluating(Event):
    """An evaluation is under way."""

    name: ClassVar[str] = "evaluating"

    step: int
    done: float
    """Completed share of the evaluation, 0 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """An evaluation is complete."""

    name: ClassVar[str] = "evaluation"

    is_best: bool
    is_last: bool
    """Whether the run ends with this evaluation."""
    num_waiting: int
    """Evaluations since the last improvement."""
    patience: int
    """Evaluations without improvement after which the run stops."""
    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """Return the event with the flat keys of summary.json under `summary`."""
        return {"event": self.name, **vars(self), "summary": self.summary.to_dict()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A training checkpoint was committed to disk."""

    name: ClassVar[str] = "saved"

    step: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """A warning for the user; training continues."""

    name: ClassVar[str] = "warning"

    step: int
    message: str
