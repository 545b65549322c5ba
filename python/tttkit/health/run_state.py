"""What a run is doing, why, and what to do next: from its lock, its heartbeat and its result.

Liveness comes from the run's lock, which ends with the process however that ends, so a killed trainer is known at once;
then from the monotonic clock that its heartbeat notes. The wall clock is for display.
"""

from __future__ import annotations

import datetime
import shlex
from contextlib import suppress
from typing import Any

from tttkit.health import vitals
from tttkit.run import memory_events, processes
from tttkit.run.directory import RunDirectory, is_locked

STALLED_SECONDS = 120.0
_PHASES = {"starting": "starting", "training": "running", "evaluating": "evaluating", "saving": "saving"}
LIVE_STATES = frozenset(_PHASES.values())
_ENDS = ("finished", "early-stopped", "preempted", "nan-stopped", "disk-full")


def state_of(run: RunDirectory, metadata: dict[str, Any]) -> tuple[str, str]:
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
        silence = seconds_since(heartbeat["time"]) if silence is None else silence
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


def next_command(state: str, run: RunDirectory, metadata: dict[str, Any]) -> str:
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


def seconds_since(timestamp: str) -> float:
    """Seconds by the wall clock since an ISO time, for display."""
    return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(timestamp)).total_seconds()
