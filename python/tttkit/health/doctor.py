"""Examine a run directory and repair what can be repaired. It reads only files and needs no torch.

Damaged files are never deleted: they are renamed to `NAME.corrupt-n`. Only leftovers of interrupted writes are removed.
"""

from __future__ import annotations

import datetime
import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, TttkitError
from tttkit.health.examination import Examination, Level
from tttkit.health.leftovers import examine_leftovers
from tttkit.health.weights import nonfinite_tensors
from tttkit.results.summary import SUMMARY_NAME, Summary
from tttkit.run.data_location import find_data, fingerprint_of
from tttkit.run.directory import RunDirectory, quoted
from tttkit.run.lock import exclusive, is_locked
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits, files


def examine_run(run: RunDirectory, *, fix: bool = False) -> list[Examination]:
    """Examine everything in a run. With `fix`, hold its lock and repair it.

    Raises RunLockedError when `fix` is set and the run is being trained.
    """
    with exclusive(run) if fix else nullcontext():
        is_training = not fix and is_locked(run)
        checks: tuple[Callable[[RunDirectory, bool], Iterator[Examination]], ...] = (
            _examine_json, _examine_digests, _examine_numbers, _examine_lines, _examine_data, _examine_disk,
            _examine_clock,
        )  # fmt: skip
        results = [examination for check in checks for examination in check(run, fix)]
        if is_training:
            message = "the run is being trained; files that it is writing now are not examined"
            return [Examination(level="ok", check="leftovers", message=message), *results]
        return [*examine_leftovers(run, fix=fix), *results]


def _examine_json(run: RunDirectory, fix: bool) -> Iterator[Examination]:
    readers: list[tuple[Path, Callable[[], Any]]] = [
        (run.metadata, run.read_metadata),
        (run.summaries, partial(Summary.read_all, run.summaries)),
    ]
    for path in run.checkpoints().values():
        readers.append((path / SUMMARY_NAME, partial(Summary.read, path / SUMMARY_NAME)))
        readers.append((path / "chunk_eval.json", partial(files.read_json, path / "chunk_eval.json")))
    num_good = 0
    for path, read in readers:
        try:
            if path.exists():
                read()
                num_good += 1
        except DataError as error:
            yield Examination(level="error", check="json", message=str(error))
    yield Examination(level="ok", check="json", message=f"{num_good} metadata and result files can be read")
    yield from _examine_summaries(run, fix)


def _examine_summaries(run: RunDirectory, fix: bool) -> Iterator[Examination]:
    """Compare all_summaries.json with the evaluations; with `fix`, write it again from them."""
    try:
        listed = {summary.step for summary in Summary.read_all(run.summaries)}
    except DataError:
        listed = set()
    summaries = []
    for path in run.checkpoints().values():
        try:
            summaries.append(Summary.read(path / SUMMARY_NAME))
        except DataError:
            continue
    missing = [summary.step for summary in summaries if summary.step not in listed]
    if not missing or "config" not in _metadata(run):
        return
    if fix:
        if run.summaries.exists() and not listed:
            commits.set_aside(run.summaries)
        Summary.write_all(run.summaries, summaries)
    yield Examination(
        level="fixed" if fix else "warning",
        check="json",
        message=f"{run.summaries} {'now lists' if fix else 'does not list'} the evaluations of steps {missing}",
        hint=None if fix else "--fix writes it again from the evaluations",
    )


def _committed(run: RunDirectory) -> list[Path]:
    """Return the directories that have a manifest: training checkpoints, then models."""
    checkpoints = [path for _, path in reversed(training_checkpoints(run))]
    models = [run.best_model, run.final_model, *(path / "model" for path in run.checkpoints().values())]
    return checkpoints + [path for path in models if path.is_dir()]


def _examine_digests(run: RunDirectory, fix: bool) -> Iterator[Examination]:
    valid, num_bytes = [], 0
    for path in _committed(run):
        try:
            num_bytes += sum(commits.verify_directory(path).values())
            valid.append(path)
        except DataError as error:
            message = f"{error}; renamed to {commits.set_aside(path).name}" if fix else str(error)
            hint = "--fix renames it to .corrupt-n; the next training checkpoint or evaluation replaces it"
            level: Level = "fixed" if fix else "error"
            yield Examination(level=level, check="digests", message=message, hint=None if fix else hint)
    message = f"{len(valid)} training checkpoints and models, {num_bytes / 1e6:,.1f} MB, match their SHA-256 manifests"
    yield Examination(level="ok", check="digests", message=message)
    if not run.states.is_dir():
        return
    steps = [step for step, path in training_checkpoints(run) if path in valid]
    if steps:
        message = f"the newest valid training checkpoint is of step {steps[0]}"
        yield Examination(level="ok", check="digests", message=message)
    else:
        message = "no valid training checkpoint is left to resume from"
        hint = "restore one from a copy, or start a new run with another --out"
        yield Examination(level="error", check="digests", message=message, hint=hint)


def _examine_numbers(run: RunDirectory, _fix: bool) -> Iterator[Examination]:
    for path in _committed(run):
        for file in sorted(path.glob("*.safetensors")):
            try:
                names = nonfinite_tensors(file)
            except DataError as error:
                yield Examination(level="error", check="numbers", message=str(error))
                continue
            if names:
                message = f"{file} holds non-finite values in {names[:3]}"
                yield Examination(level="error", check="numbers", message=message)
    records = run.read_metrics()
    bad = [record["step"] for record in records if not _is_finite(record.get("loss"))]
    if bad:
        message = f"the loss was not finite at {len(bad)} logged steps"
        yield Examination(level="warning", check="numbers", message=message)
    skipped = records[-1].get("num_skipped", 0) if records else 0
    yield Examination(level="ok", check="numbers", message=f"{len(records)} logged steps, {skipped} updates skipped")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _examine_lines(run: RunDirectory, fix: bool) -> Iterator[Examination]:
    for path in (run.metrics, run.training_log):
        torn = files.torn_bytes(path)
        if torn:
            if fix:
                files.trim_torn_line(path)
            what = "removed" if fix else "ends in"
            yield Examination(
                level="fixed" if fix else "warning",
                check="lines",
                message=f"{path}: {what} an incomplete line of {torn} bytes",
                hint=None if fix else "--fix removes it, and so does the next `tttkit resume`",
            )
    bad = sum(not _is_record(line) for line in run.metric_lines())
    if bad:
        message = f"{run.metrics}: {bad} lines are not records; readers skip them"
        yield Examination(level="warning", check="lines", message=message)


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line)["step"], int)
    except (ValueError, TypeError, KeyError):
        return False


def _examine_data(run: RunDirectory, _fix: bool) -> Iterator[Examination]:
    recorded = _metadata(run).get("data")
    if not isinstance(recorded, dict) or "path" not in recorded:
        return
    try:
        path = find_data(run, recorded)
    except TttkitError as error:
        yield Examination(level="error", check="data", message=str(error), hint=error.hint)
        return
    if fingerprint_of(path) != recorded.get("fingerprint"):
        message = f"the data fingerprint of {path} has changed since the run began"
        hint = "restore the data, or resume with --allow-data-change"
        yield Examination(level="error", check="data", message=message, hint=hint)
    else:
        message = f"{path} has the data fingerprint that the run began with"
        hint = f"to verify every shard: tttkit data verify {quoted(path)}"
        yield Examination(level="ok", check="data", message=message, hint=hint)


def _examine_disk(run: RunDirectory, _fix: bool) -> Iterator[Examination]:
    """Compare the free space with the needs of the rest of the run.

    It needs one more training checkpoint, the final model, and a copy of each directory while it is replaced.
    """
    free = shutil.disk_usage(run.path).free
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in _committed(run)]
    needed = 3 * max(sizes, default=0)
    level: Level = "ok" if free >= needed else "warning"
    message = f"{free / 1e9:,.2f} GB free; the rest of the run needs at most {needed / 1e9:,.2f} GB at once"
    yield Examination(level=level, check="disk", message=message, hint=None if level == "ok" else "free disk space")


def _examine_clock(run: RunDirectory, _fix: bool) -> Iterator[Examination]:
    now = datetime.datetime.now(datetime.UTC)
    segments = _metadata(run).get("segments") or []
    times = [segment.get(key) for segment in segments if isinstance(segment, dict) for key in ("started", "ended")]
    ahead = [time for time in times if time and datetime.datetime.fromisoformat(time) > now]
    if ahead:
        message = f"{len(ahead)} recorded times are in the future, up to {max(ahead)}: a clock was or is wrong"
        hint = "neither the order of events nor resuming depends on the clock"
        yield Examination(level="warning", check="clock", message=message, hint=hint)
    else:
        yield Examination(level="ok", check="clock", message="no recorded time is in the future")


def _metadata(run: RunDirectory) -> dict[str, Any]:
    try:
        return run.read_metadata()
    except DataError:
        return {}
