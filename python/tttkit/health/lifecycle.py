"""The lifecycle of a run: whether it is running, why it ended, and which command comes next.

The lock of a run ends with its process, however the process ends, so that a killed trainer is noticed at once. A live
trainer is judged by the monotonic clock in its heartbeat. The wall clock is only shown. What is saved is read from the
training checkpoints on disk; metadata.json only tells where and why a run stopped.
"""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from contextlib import suppress
from typing import Any

from tttkit.run import memory_events, processes
from tttkit.run.directory import RunDirectory, quoted
from tttkit.run.lock import is_locked
from tttkit.run.pruned_file import read_pruned
from tttkit.run.ranks_file import RanksFile
from tttkit.run.saved import ENDED, PRUNED, describe_saved, newest_saved_step

STALLED_SECONDS = 120.0
"""A live trainer whose heartbeat is older than this has stalled."""
_PHASES = {"starting": "starting", "training": "running", "evaluating": "evaluating", "saving": "saving"}
LIVE_STATES = frozenset(_PHASES.values())
"""States of a run whose process is alive and well."""
_ENDS = ("finished", "early-stopped", "preempted", "nan-stopped", "disk-full")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """The activity or the end of a run, its reason, and the command that comes next."""

    state: str
    """starting, running, evaluating, saving, stalled, disk-full, preempted, pruned, finished, early-stopped,
    nan-stopped, crashed, or unknown."""
    reason: str
    next_command: str

    @property
    def is_live(self) -> bool:
        """Whether the process of the run is alive and well."""
        return self.state in LIVE_STATES


def read_lifecycle(run: RunDirectory, metadata: dict[str, Any]) -> Lifecycle:
    """Tell the state of a run from its lock, its heartbeat, its metadata, and the training checkpoints on disk."""
    heartbeat = run.read_heartbeat() or {}
    is_alive = is_locked(run)
    state, reason = _living(run, heartbeat) if is_alive else _ended(run, heartbeat, metadata)
    command = _next_command(state, run, heartbeat, metadata, is_alive=is_alive)
    return Lifecycle(state=state, reason=reason, next_command=command)


def wall_seconds_since(timestamp: str) -> float:
    """Return the seconds by the wall clock since an ISO time, for display only."""
    return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(timestamp)).total_seconds()


def _living(run: RunDirectory, heartbeat: dict[str, Any]) -> tuple[str, str]:
    """Return state and reason of a run whose lock is held."""
    holder = ""
    with suppress(FileNotFoundError):  # a refused run removes its files, the lock among them
        holder = run.lock.read_text(encoding="utf-8", errors="replace").strip()
    is_current = holder == processes.describe(heartbeat)
    holder = holder.partition(", started")[0]
    if not is_current:
        return "starting", holder  # the heartbeat is missing or comes from an earlier process
    silence = processes.seconds_since(heartbeat)
    phase = _PHASES.get(heartbeat["phase"], "running")
    if processes.is_stopped(heartbeat):
        command = f"kill -CONT {heartbeat['pid']}"
        return "stalled", f"suspended by a signal while {phase}; `{command}` continues it ({holder})"
    if silence is not None and silence > STALLED_SECONDS:
        return "stalled", f"alive, but silent for {silence:.0f} s while {phase} ({holder})"
    if heartbeat.get("problem"):
        return "disk-full", f"training continues and waits for disk space: {heartbeat['problem']} ({holder})"
    return phase, holder


def _ended(run: RunDirectory, heartbeat: dict[str, Any], metadata: dict[str, Any]) -> tuple[str, str]:
    """Return state and reason of a run whose lock is free."""
    if "config" not in metadata:
        return "unknown", "written by the earlier system, which did not record how a run ended"
    result = metadata.get("result", {})
    if result.get("reason") not in ENDED and (pruned := read_pruned(run)):
        return PRUNED, f"{pruned.reason}; {describe_saved(newest_saved_step(run), result.get('step'))}"
    if result.get("reason") in _ENDS:
        return str(result["reason"]), _reason_of_end(run, result, metadata)
    if processes.is_elsewhere(heartbeat):
        last = f"its last heartbeat was number {heartbeat.get('sequence')}, at step {heartbeat.get('step')}"
        return "unknown", f"host {heartbeat['host']}: only that host can tell whether the run is alive; {last}"
    if not metadata.get("segments"):
        return "crashed", "its process ended before training began"
    return "crashed", _reason_of_crash(run, heartbeat)


def _reason_of_end(run: RunDirectory, result: dict[str, Any], metadata: dict[str, Any]) -> str:
    """Word an end that the trainer recorded."""
    reason, step = result["reason"], result.get("step")
    if reason == "finished":
        return f"all steps done at step {step}"
    if reason == "early-stopped":
        patience = metadata.get("early_stopping", {}).get("patience")
        return f"no improvement in {patience} evaluations, at step {step}"
    if reason == "preempted" and step == 0:
        return "stopped by a signal before the first step"
    saved = describe_saved(newest_saved_step(run), step)
    if reason == "preempted":
        return f"stopped by a signal at step {step}; {saved}"
    if reason == "disk-full":
        return f"the disk was full at step {step}, so the results could not be written; {saved}"
    return f"loss, gradients, or fast weights were not finite at step {step}; {saved}"


def _reason_of_crash(run: RunDirectory, heartbeat: dict[str, Any]) -> str:
    """Say which process ended when and where, how much of its work is saved, and whether the kernel killed it."""
    process = f" (pid {heartbeat['pid']})" if "pid" in heartbeat else ""
    lost = (RanksFile(run).read() or {}).get("lost")
    parts = [lost or f"its process{process} ended without recording why"]
    if "time" in heartbeat:
        silence = processes.seconds_since(heartbeat)
        silence = wall_seconds_since(heartbeat["time"]) if silence is None else silence
        parts.append(f"at most {silence:,.0f} s ago")
    step = heartbeat.get("step")
    if isinstance(step, int):
        parts.append(f"at about step {step:,}")
    saved = describe_saved(newest_saved_step(run), step if isinstance(step, int) else None)
    if lost:
        return f"{', '.join(parts)}; {saved}"
    kills = memory_events.kills_since(heartbeat.get("memory_events"))
    why = "it was killed or ran out of memory"
    if kills:
        noun = "process" if kills == 1 else "processes"
        why = f"probably OOM-killed: the kernel has killed {kills} {noun} for lack of memory since the last heartbeat"
    return f"{', '.join(parts)}; {saved}; {why}"


def _next_command(
    state: str, run: RunDirectory, heartbeat: dict[str, Any], metadata: dict[str, Any], *, is_alive: bool
) -> str:
    """Return the command for a run in this state; a remark in parentheses may follow it."""
    if state in LIVE_STATES:
        return f"tttkit status {run.argument} --loop"
    if state == "stalled" and processes.is_stopped(heartbeat):
        return f"kill -CONT {heartbeat['pid']}"
    if state == "stalled":
        return f"kill {heartbeat.get('pid', 'PID')}; tttkit resume {run.argument}  (unless it recovers by itself)"
    if state == "disk-full" and is_alive:
        return f"tttkit doctor {run.argument}  (shows how much space the run needs)"
    if state in ("preempted", PRUNED, "crashed", "disk-full"):
        saved = newest_saved_step(run)
        how = "starts again at step 0" if saved is None else f"resumes from step {saved}"
        # not the command that started the run: the run may have been moved since, or the user may be elsewhere
        return f"tttkit resume {run.argument}  ({how})"
    if state == "nan-stopped":
        learning_rate = metadata.get("config", {}).get("optimizer", {}).get("learning_rate", 0.0)
        again = shlex.join(metadata.get("command", [])) or "tttkit train"
        out = quoted(run.path.with_name(f"{run.path.name}-lower-learning-rate"))
        return f"{again} --learning-rate {learning_rate / 2:g} --out {out}"
    if state == "unknown" and "config" in metadata:
        path = shlex.quote(shlex.quote(str(run.path.absolute())))  # quoted for the local shell and for the remote one
        return f"ssh {heartbeat.get('host', 'HOST')} tttkit status {path}"
    return f"tttkit plot {run.argument}"
