"""A look at a run: its state, how far it is, its figures. Files and the lock only; no torch."""

from __future__ import annotations

import dataclasses
from typing import Any

from tttkit.analyze import earlier_system
from tttkit.health import vitals
from tttkit.health.run_state import LIVE_STATES, next_command, seconds_since, state_of
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunStatus:
    """One look at a run. What is not known is None."""

    schema_version: int
    run: str
    run_id: str | None
    """What tells this run from another at the same path."""
    state: str
    """starting, running, evaluating, saving, stalled, disk-full, preempted, finished, early-stopped, nan-stopped,
    crashed or unknown."""
    reason: str
    next_command: str
    model: str | None
    step: int | None
    max_steps: int | None
    tokens_seen: int | None
    window: int | None
    """Training window at the last logged step of a run with stages."""
    loss: float | None
    ppl: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    losses: list[float]
    """Logged losses, thinned to at most 40."""
    num_evaluations: int
    num_evaluations_planned: int | None
    best_selection_ppl: float | None
    best_step: int | None
    patience: int | None
    num_waiting: int | None
    latest: dict[str, Any] | None
    """summary.json of the latest evaluation."""
    log: list[str]
    """Last lines of training.log."""
    selection_ppls: list[float]
    """selection_ppl of the evaluations, thinned to at most 40."""
    advantage: dict[str, Any] | None
    """Longest labelled position of the latest evaluation: label, full_ppl, sw_ppl, ratio (SW/full) and its interval."""
    num_skipped: int | None
    """Updates left out because loss, gradient or carried fast weights were not finite."""
    saved_step: int | None
    saved_seconds_ago: float | None
    """Age of the newest resumable state, by the wall clock."""
    disk_used_bytes: int
    disk_free_bytes: int
    gpus: list[dict[str, int]]
    """Of a run that lives on one: index, utilization (percent), memory_used and memory_total (MiB), temperature."""

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)


def read_status(run: RunDirectory, *, num_log_lines: int = 3) -> RunStatus:
    """Look at a run that is starting, running or over; also at a directory of the earlier system, as far as it tells.

    Raises DataError when a file is damaged.
    """
    metadata = earlier_system.read_metadata(run)
    summaries, metrics = earlier_system.read_summaries(run), run.read_metrics()
    last = metrics[-1] if metrics else {}
    config = metadata.get("config", {})
    state, reason = state_of(run, metadata)
    step = _latest_step(metadata, last, summaries, run)
    max_steps = config.get("train", {}).get("max_steps", metadata.get("max_train_steps"))
    stopping = metadata.get("early_stopping", {})
    best = stopping.get("best_checkpoint")
    best_steps = [item.step for item in summaries if best is not None and item.index == best]
    running = state in LIVE_STATES
    saved, (used, free) = vitals.newest_state(run), vitals.disk(run.path)
    return RunStatus(
        schema_version=SCHEMA_VERSION,
        run=str(run.results or run.path),
        run_id=metadata.get("run_id"),
        state=state,
        reason=reason,
        next_command=next_command(state, run, metadata),
        model=metadata.get("model", {}).get("name") if isinstance(metadata.get("model"), dict) else None,
        step=step,
        max_steps=max_steps,
        tokens_seen=last.get("tokens_seen"),
        window=last.get("window"),
        loss=_number(last.get("loss")),
        ppl=_number(last.get("ppl")),
        learning_rate=last.get("lr"),
        tokens_per_second=last.get("tokens_per_second"),
        eta_seconds=_eta(last) if running else None,
        losses=_thin([value for record in metrics if (value := _number(record.get("loss"))) is not None]),
        num_evaluations=len(summaries),
        num_evaluations_planned=config.get("evaluation", {}).get(
            "num_checkpoints", metadata.get("num_eval_checkpoints")
        ),
        best_selection_ppl=stopping.get("best"),
        best_step=best_steps[0] if best_steps else None,
        patience=stopping.get("patience"),
        num_waiting=stopping.get("num_waiting"),
        latest=summaries[-1].to_dict() if summaries else None,
        log=run.tail_log(num_log_lines),
        selection_ppls=_thin([value for item in summaries if (value := item.selection_ppl) is not None]),
        advantage=vitals.advantage(summaries[-1] if summaries else None),
        num_skipped=last.get("num_skipped"),
        saved_step=saved[0] if saved else None,
        saved_seconds_ago=saved[1] if saved else None,
        disk_used_bytes=used,
        disk_free_bytes=free,
        gpus=vitals.gpus() if running and str(config.get("train", {}).get("device")).startswith("cuda") else [],
    )


def _latest_step(
    metadata: dict[str, Any], last: dict[str, Any], summaries: list[Summary], run: RunDirectory
) -> int | None:
    heartbeat = run.read_heartbeat() or {}
    steps = [
        metadata.get("result", {}).get("step"),
        heartbeat.get("step"),
        last.get("step"),
        summaries[-1].step if summaries else None,
    ]
    known = [step for step in steps if isinstance(step, int)]
    return max(known) if known else None


def _eta(last: dict[str, Any]) -> float | None:
    """What the trainer expected at its last logged step, less the time since then."""
    expected = _number(last.get("eta_seconds"))
    return None if expected is None or "time" not in last else max(0.0, expected - seconds_since(last["time"]))


def _thin(values: list[float], most: int = 40) -> list[float]:
    if len(values) <= most:
        return values
    return [values[index * (len(values) - 1) // (most - 1)] for index in range(most)]


def _number(value: Any) -> float | None:
    """A finite number of metrics.jsonl; NaN and infinities are strings there."""
    return float(value) if isinstance(value, int | float) else None
