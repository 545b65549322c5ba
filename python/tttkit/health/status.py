"""The status of a run: its lifecycle, its progress, and its figures, read from files and the lock. No torch."""

from __future__ import annotations

import dataclasses
from typing import Any

from tttkit.analyze import earlier_system
from tttkit.health import vitals
from tttkit.health.lifecycle import read_lifecycle, wall_seconds_since
from tttkit.health.ranks import read_ranks
from tttkit.results.summary import Summary
from tttkit.results.values import number
from tttkit.run.directory import RunDirectory
from tttkit.run.parent import describe_parent

SCHEMA_VERSION = 1
_MAX_POINTS = 40
"""Points of a curve for a sparkline."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The facts that `status` shows about a run. A field that is not known is None."""

    schema_version: int
    run: str
    run_id: str | None
    """Identifies this run among others at the same path."""
    state: str
    """One of the values of `Lifecycle.state`."""
    reason: str
    next_command: str
    model: str | None
    parent: str | None
    """What the run started from, if not from initial weights."""
    step: int | None
    max_steps: int | None
    tokens_seen: int | None
    window: int | None
    """Training window in tokens at the last logged step, for a run whose window changes in stages."""
    loss: float | None
    ppl: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    eta_seconds: float | None
    losses: list[float]
    """Logged losses in nats per token, thinned to at most 40."""
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
    """selection_ppl of each evaluation, thinned to at most 40."""
    advantage: dict[str, Any] | None
    """The longest labeled position of the latest evaluation: label, full_ppl, sw_ppl, ratio (SW/full), ratio_low, and
    ratio_high."""
    num_skipped: int | None
    """Updates skipped because loss, gradient, or initial fast weights were not finite."""
    saved_step: int | None
    """Step of the newest training checkpoint on disk."""
    saved_seconds_ago: float | None
    """Age of that training checkpoint by the wall clock."""
    disk_used_bytes: int
    disk_free_bytes: int
    slowed_down: str | None
    """For a live run: the warning that other processes use its cores, and what to do about it."""
    ranks: dict[str, Any] | None
    """The state of the ranks; None for a run of one process. It holds world_size, the seconds since each rank's last
    sign of life (`ages`), the slowest rank and its own seconds per update, the ranks that give no sign of life
    (`silent`), and which ranks were lost."""
    gpus: list[dict[str, int]]
    """For a live run on a GPU: index, utilization (percent), memory_used and memory_total (MiB), temperature (°C)."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return dataclasses.asdict(self)


def read_status(run: RunDirectory, *, num_log_lines: int = 3) -> RunStatus:
    """Read the status of a run at any time of its life; for a run of the earlier system, as far as its files tell.

    Raises DataError when a file is damaged, OSError when one cannot be read.
    """
    metadata = earlier_system.read_metadata(run)
    metrics = run.read_metrics()
    summaries = earlier_system.read_summaries(run)
    last = metrics[-1] if metrics else {}
    lifecycle = read_lifecycle(run, metadata)
    model = metadata.get("model")
    return RunStatus(
        schema_version=SCHEMA_VERSION,
        run=str(run.results or run.path),
        run_id=metadata.get("run_id"),
        **dataclasses.asdict(lifecycle),
        model=model.get("name") if isinstance(model, dict) else None,
        parent=describe_parent(metadata),
        step=_latest_step(run, metadata, last, summaries),
        max_steps=_config(metadata, "train").get("max_steps", metadata.get("max_train_steps")),
        eta_seconds=_remaining_seconds(last) if lifecycle.is_live else None,
        log=run.tail_log(num_log_lines),
        tokens_seen=metadata.get("result", {}).get("tokens_seen", last.get("tokens_seen")),
        **_training_figures(metrics, last),
        **_evaluation_figures(metadata, summaries),
        ranks=read_ranks(run, metadata, is_live=lifecycle.is_live),
        **_surroundings(run, metadata, is_live=lifecycle.is_live),
    )


def _training_figures(metrics: list[dict[str, Any]], last: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of RunStatus from metrics.jsonl, whose last record is `last`."""
    losses = (number(record.get("loss")) for record in metrics)
    return {
        "window": last.get("window"),
        "loss": number(last.get("loss")),
        "ppl": number(last.get("ppl")),
        "learning_rate": number(last.get("lr")),
        "tokens_per_second": number(last.get("tokens_per_second")),
        "losses": _thin([loss for loss in losses if loss is not None]),
        "num_skipped": last.get("num_skipped"),
    }


def _evaluation_figures(metadata: dict[str, Any], summaries: list[Summary]) -> dict[str, Any]:
    """Return the fields of RunStatus about evaluations, early stopping, and the best model."""
    stopping = metadata.get("early_stopping", {})
    best = stopping.get("best_checkpoint")
    best_steps = [summary.step for summary in summaries if best is not None and summary.index == best]
    ppls = (summary.selection_ppl for summary in summaries)
    latest = summaries[-1] if summaries else None
    return {
        "num_evaluations": len(summaries),
        "num_evaluations_planned": metadata.get(
            "num_evaluations_planned",
            _config(metadata, "evaluation").get("num_checkpoints", metadata.get("num_eval_checkpoints")),
        ),
        "best_selection_ppl": stopping.get("best"),
        "best_step": best_steps[0] if best_steps else None,
        "patience": stopping.get("patience"),
        "num_waiting": stopping.get("num_waiting"),
        "latest": latest.to_dict() if latest else None,
        "selection_ppls": _thin([ppl for ppl in ppls if ppl is not None]),
        "advantage": vitals.advantage(latest) if latest else None,
    }


def _surroundings(run: RunDirectory, metadata: dict[str, Any], *, is_live: bool) -> dict[str, Any]:
    """Return the fields of RunStatus about the newest training checkpoint, the disk, the processor, and the GPUs."""
    saved_step, saved_seconds_ago = vitals.newest_training_checkpoint(run) or (None, None)
    used, free = vitals.disk(run.path)
    is_on_gpu = str(_config(metadata, "train").get("device")).startswith("cuda")
    return {
        "saved_step": saved_step,
        "saved_seconds_ago": saved_seconds_ago,
        "disk_used_bytes": used,
        "disk_free_bytes": free,
        "slowed_down": metadata.get("threads", {}).get("warning") if is_live else None,
        "gpus": vitals.gpus() if is_live and is_on_gpu else [],
    }


def _config(metadata: dict[str, Any], section: str) -> dict[str, Any]:
    """Return a section of the recorded config; empty for a run of the earlier system."""
    values: dict[str, Any] = metadata.get("config", {}).get(section, {})
    return values


def _latest_step(
    run: RunDirectory, metadata: dict[str, Any], last: dict[str, Any], summaries: list[Summary]
) -> int | None:
    """Return the largest step that any file of the run mentions."""
    heartbeat = run.read_heartbeat() or {}
    steps = [
        metadata.get("result", {}).get("step"),
        heartbeat.get("step"),
        last.get("step"),
        summaries[-1].step if summaries else None,
    ]
    return max((step for step in steps if isinstance(step, int)), default=None)


def _remaining_seconds(last: dict[str, Any]) -> float | None:
    """Return the seconds that the trainer expected at its last logged step, minus the time since then."""
    expected = number(last.get("eta_seconds"))
    return None if expected is None or "time" not in last else max(0.0, expected - wall_seconds_since(last["time"]))


def _thin(values: list[float], most: int = _MAX_POINTS) -> list[float]:
    """Return at most `most` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[index * (len(values) - 1) // (most - 1)] for index in range(most)]
