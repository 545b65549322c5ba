"""Run directory to state: what a run is doing, how far it is, what to do next. Files and the lock only; no torch.

Liveness comes from the run's lock, which ends with the process however that ends, so a killed trainer is known at once;
then from the monotonic clock that its heartbeat notes. The wall clock is for display.
"""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from contextlib import suppress
from typing import Any

from tttkit import memory_events, processes
from tttkit.analyze import legacy
from tttkit.report import vitals
from tttkit.rundir import RunDirectory, is_locked

SCHEMA_VERSION = 1
STALLED_SECONDS = 120.0
_PHASES = {"starting": "starting", "training": "running", "evaluating": "evaluating", "saving": "saving"}
LIVE_STATES = frozenset(_PHASES.values())
_ENDS = ("finished", "early-stopped", "preempted", "nan-stopped", "disk-full")


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
    metadata = legacy.read_metadata(run)
    summaries, metrics = legacy.read_summaries(run), run.read_metrics()
    last = metrics[-1] if metrics else {}
    config = metadata.get("config", {})
    state, reason = _state(run, metadata)
    step = _latest_step(metadata, last, summaries, run)
    max_steps = config.get("train", {}).get("max_steps", metadata.get("max_train_steps"))
    stopping = metadata.get("early_stopping", {})
    best = stopping.get("best_checkpoint")
    best_steps = [item.get("step") for item in summaries if best is not None and item.get("checkpoint_idx") == best]
    running = state in LIVE_STATES
    saved, (used, free) = vitals.newest_state(run), vitals.disk(run.path)
    return RunStatus(
        schema_version=SCHEMA_VERSION,
        run=str(run.results or run.path),
        run_id=metadata.get("run_id"),
        state=state,
        reason=reason,
        next_command=_next_command(state, run, metadata),
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
        latest=summaries[-1] if summaries else None,
        log=run.tail_log(num_log_lines),
        selection_ppls=_thin(
            [value for item in summaries if (value := _number(item.get("selection_ppl"))) is not None]
        ),
        advantage=vitals.advantage(summaries[-1] if summaries else None),
        num_skipped=last.get("num_skipped"),
        saved_step=saved[0] if saved else None,
        saved_seconds_ago=saved[1] if saved else None,
        disk_used_bytes=used,
        disk_free_bytes=free,
        gpus=vitals.gpus() if running and str(config.get("train", {}).get("device")).startswith("cuda") else [],
    )


def _state(run: RunDirectory, metadata: dict[str, Any]) -> tuple[str, str]:
    """State and its reason, from the lock, the heartbeat and the result."""
    heartbeat = run.read_heartbeat() or {}
    if is_locked(run):
        return _state_of_living(run, heartbeat)
    if "config" not in metadata:
        return "unknown", "made by the earlier system, which recorded no state"
    result = metadata.get("result", {})
    if result.get("reason") in _ENDS:
        return str(result["reason"]), _reason_of_end(str(result["reason"]), result, metadata)
    if processes.is_elsewhere(heartbeat):
        last = f"sign of life {heartbeat.get('sequence')} at step {heartbeat.get('step')}"
        return "unknown", f"host {heartbeat['host']}: only there it is known whether it lives; {last}"
    if not metadata.get("segments"):
        return "crashed", "its process ended before training began"
    return "crashed", _reason_of_crash(run, heartbeat)


def _state_of_living(run: RunDirectory, heartbeat: dict[str, Any]) -> tuple[str, str]:
    holder = ""
    with suppress(FileNotFoundError):  # a refused run takes its files away, the lock included
        holder = run.lock.read_text(encoding="utf-8", errors="replace").strip()  # what processes.describe says
    is_current = holder == processes.describe(heartbeat)
    holder = holder.partition(", started")[0]
    if not is_current:
        return "starting", holder  # the heartbeat is of an earlier process, or not there yet
    silence = processes.seconds_since(heartbeat)
    phase = _PHASES.get(heartbeat["phase"], "running")
    if processes.is_stopped(heartbeat):
        return "stalled", f"stopped by a signal while {phase}, goes on with `kill -CONT {heartbeat['pid']}` ({holder})"
    if silence is not None and silence > STALLED_SECONDS:
        return "stalled", f"alive, but silent for {silence:.0f} s while {phase} ({holder})"
    if heartbeat.get("problem"):
        return "disk-full", f"training goes on and waits for room: {heartbeat['problem']} ({holder})"
    return phase, holder


def _reason_of_crash(run: RunDirectory, heartbeat: dict[str, Any]) -> str:
    """Who ended when and where, how much is lost, and whether the kernel counts a kill for want of memory since."""
    process = f" (pid {heartbeat['pid']})" if "pid" in heartbeat else ""
    parts = [f"its process{process} ended without saying why"]
    if "time" in heartbeat:
        silence = processes.seconds_since(heartbeat)
        silence = _seconds_since(heartbeat["time"]) if silence is None else silence
        parts.append(f"{silence:,.0f} s ago at the latest")
    saved, step = vitals.newest_state(run), heartbeat.get("step")
    if isinstance(step, int):
        lost = (
            f", {max(0, step - saved[0]):,} steps after the last saved state" if saved else ", before any saved state"
        )
        parts.append(f"at about step {step:,}{lost}")
    kills = memory_events.kills_since(heartbeat.get("memory_events"))
    why = "killed, or out of memory"
    if kills:
        why = f"probably OOM-killed: {kills} such kill{'s' if kills > 1 else ''} counted since its last sign of life"
    return f"{', '.join(parts)}; {why}"


def _reason_of_end(reason: str, result: dict[str, Any], metadata: dict[str, Any]) -> str:
    step = result.get("step")
    if reason == "early-stopped":
        patience = metadata.get("early_stopping", {}).get("patience")
        return f"no improvement in {patience} evaluations, at step {step}"
    if reason == "preempted":
        return f"a signal stopped it at step {step}; its state is saved"
    if reason == "disk-full":
        return f"it ended at step {step}, and its results could not be written"
    if reason == "nan-stopped":
        return f"loss, gradients or fast weights were not finite at step {step}"
    return f"all steps done, at step {step}"


def _next_command(state: str, run: RunDirectory, metadata: dict[str, Any]) -> str:
    """What to do with a run in this state, as a command."""
    heartbeat = run.read_heartbeat() or {}
    again = shlex.join(metadata.get("command", [])) or f"tttkit train --out {run.argument}"
    if state in LIVE_STATES:
        return f"tttkit status {run.argument} --loop"
    if state == "stalled" and processes.is_stopped(heartbeat):
        return f"kill -CONT {heartbeat['pid']}"
    if state == "stalled":
        return f"kill {heartbeat.get('pid', 'PID')}; tttkit resume {run.argument}  (unless it goes on by itself)"
    if state == "disk-full" and is_locked(run):
        return f"tttkit doctor {run.argument}  (says how much room it needs)"
    if state in ("preempted", "crashed", "disk-full"):
        return f"{again}  (goes on from the last saved state)"
    if state == "nan-stopped":
        rate = metadata.get("config", {}).get("optimizer", {}).get("learning_rate", 0.0)
        return f"{again} --learning-rate {rate / 2:g} --out {shlex.quote(f'{run.path}-lower-rate')}"
    if state == "unknown" and "config" in metadata:
        there = shlex.quote(shlex.quote(str(run.path.absolute())))  # for the shell here and the one there
        return f"ssh {heartbeat.get('host', 'HOST')} tttkit status {there}"
    return f"tttkit plot {run.argument}"


def _latest_step(
    metadata: dict[str, Any], last: dict[str, Any], summaries: list[dict[str, Any]], run: RunDirectory
) -> int | None:
    heartbeat = run.read_heartbeat() or {}
    steps = [
        metadata.get("result", {}).get("step"),
        heartbeat.get("step"),
        last.get("step"),
        summaries[-1].get("step") if summaries else None,
    ]
    known = [step for step in steps if isinstance(step, int)]
    return max(known) if known else None


def _eta(last: dict[str, Any]) -> float | None:
    """What the trainer expected at its last logged step, less the time since then."""
    expected = _number(last.get("eta_seconds"))
    return None if expected is None or "time" not in last else max(0.0, expected - _seconds_since(last["time"]))


def _seconds_since(timestamp: str) -> float:
    return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(timestamp)).total_seconds()


def _thin(values: list[float], most: int = 40) -> list[float]:
    if len(values) <= most:
        return values
    return [values[index * (len(values) - 1) // (most - 1)] for index in range(most)]


def _number(value: Any) -> float | None:
    """A finite number of metrics.jsonl; NaN and infinities are strings there."""
    return float(value) if isinstance(value, int | float) else None
