"""What is wrong with a run directory or an environment, and mending what can be mended. Files alone; no torch.

Nothing damaged is ever deleted: it is renamed to `NAME.corrupt-n`. Only leftovers of interrupted writes are removed.
"""

from __future__ import annotations

import datetime
import importlib
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tttkit
from tttkit.errors import DataError, TttkitError
from tttkit.health.finding import Finding, Level
from tttkit.health.leftovers import examine_folder, examine_leftovers
from tttkit.health.weights import nonfinite_tensors
from tttkit.run.directory import RunDirectory, exclusive, is_locked
from tttkit.storage import commits, files

_STATE = re.compile(r"^step_\d+$")
_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "datasets", "matplotlib")


def examine_environment(*, fix: bool = False) -> list[Finding]:
    """Packages, the extension, the free disk of the current directory and what killed commands left there."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(Finding(level="ok", check="environment", message=f"{name} {version(name)}"))
        except PackageNotFoundError:
            hint = "install tttkit again with its dependencies"
            found.append(Finding(level="error", check="environment", message=f"{name} is missing", hint=hint))
    found.append(_examine_extension())
    free = shutil.disk_usage(".").free
    found.append(Finding(level="ok", check="disk", message=f"{free / 1e9:,.1f} GB free here"))
    message = f"tttkit {tttkit.__version__}, Python {sys.version.split()[0]}"
    return [Finding(level="ok", check="environment", message=message), *found, *examine_folder(Path(), fix=fix)]


def examine_run(run: RunDirectory, *, fix: bool = False) -> list[Finding]:
    """Look at everything in a run. With `fix` mend it, holding its lock. Raises RunLockedError when it is training."""
    with exclusive(run) if fix else nullcontext():
        alive = not fix and is_locked(run)
        checks: tuple[Callable[[RunDirectory, bool], Iterator[Finding]], ...] = (
            _examine_json, _examine_digests, _examine_numbers, _examine_lines, _examine_data, _examine_disk,
            _examine_clock,
        )  # fmt: skip
        found = [finding for check in checks for finding in check(run, fix)]
        if alive:
            message = "the run is being trained: what it is writing right now is not judged"
            return [Finding(level="ok", check="leftovers", message=message), *found]
        return [*examine_leftovers(run, fix=fix), *found]


def _examine_extension() -> Finding:
    try:
        importlib.import_module("tttkit._rust")  # loading it is the check
    except ImportError as error:
        hint = "install the wheel; in a checkout: make build"
        return Finding(
            level="error", check="environment", message=f"the extension cannot be loaded: {error}", hint=hint
        )
    return Finding(level="ok", check="environment", message="the extension is there")


def _examine_json(run: RunDirectory, fix: bool) -> Iterator[Finding]:
    readers: list[tuple[Path, Callable[[], Any]]] = [
        (run.metadata, run.read_metadata),
        (run.summaries, run.read_summaries),
        *((path / "summary.json", _reader(path / "summary.json")) for path in run.checkpoints().values()),
        *((path / "chunk_eval.json", _reader(path / "chunk_eval.json")) for path in run.checkpoints().values()),
    ]
    num_good = 0
    for path, read in readers:
        try:
            if path.exists():
                read()
                num_good += 1
        except DataError as error:
            yield Finding(level="error", check="json", message=str(error))
    yield Finding(level="ok", check="json", message=f"{num_good} files of results and metadata can be read")
    yield from _examine_summaries(run, fix)


def _reader(path: Path) -> Callable[[], Any]:
    return lambda: files.read_json(path)


def _examine_summaries(run: RunDirectory, fix: bool) -> Iterator[Finding]:
    """all_summaries.json must list what the checkpoints hold; it can be made from them again."""
    try:
        listed = {item.get("step") for item in run.read_summaries()}
    except DataError:
        listed = set()
    there = []
    for path in run.checkpoints().values():
        try:
            there.append(files.read_json(path / "summary.json"))
        except DataError:
            continue
    missing = [item.get("step") for item in there if item.get("step") not in listed]
    if not missing or "config" not in (files.read_json(run.metadata) if run.metadata.exists() else {}):
        return
    if fix:
        if run.summaries.exists() and not listed:
            commits.set_aside(run.summaries)
        files.write_json(run.summaries, there)
    yield Finding(
        level="mended" if fix else "warning",
        check="json",
        message=f"{run.summaries} {'lists now' if fix else 'does not list'} the evaluations of steps {missing}",
        hint=None if fix else "--fix makes it again from the checkpoints",
    )


def _committed(run: RunDirectory) -> list[Path]:
    """Directories that have a manifest: states and models."""
    states = [entry for entry in run.states.iterdir() if _STATE.match(entry.name)] if run.states.is_dir() else []
    models = [run.best_model, run.final_model, *(path / "model" for path in run.checkpoints().values())]
    return sorted(states) + [path for path in models if path.is_dir()]


def _examine_digests(run: RunDirectory, fix: bool) -> Iterator[Finding]:
    num_good = num_bytes = num_states = 0
    for path in _committed(run):
        try:
            num_bytes += sum(commits.verify_directory(path).values())
            num_good += 1
            num_states += path.parent == run.states
        except DataError as error:
            message = f"{error}; renamed to {commits.set_aside(path).name}" if fix else str(error)
            hint = None if fix else "--fix sets it aside as .corrupt-n; the next state or evaluation takes its place"
            yield Finding(level="mended" if fix else "error", check="digests", message=message, hint=hint)
    message = f"{num_good} states and models, {num_bytes / 1e6:,.1f} MB, have the SHA-256 of their manifests"
    yield Finding(level="ok", check="digests", message=message)
    if run.states.is_dir() and not num_states:
        hint = "restore one from a copy, or start anew with another --out"
        yield Finding(level="error", check="digests", message="no valid state is left to go on from", hint=hint)


def _examine_numbers(run: RunDirectory, _fix: bool) -> Iterator[Finding]:
    for path in _committed(run):
        for file in sorted(path.glob("*.safetensors")):
            try:
                names = nonfinite_tensors(file)
            except DataError as error:
                yield Finding(level="error", check="numbers", message=str(error))
                continue
            if names:
                yield Finding(level="error", check="numbers", message=f"{file} holds non-finite values in {names[:3]}")
    records = run.read_metrics()
    bad = [record["step"] for record in records if not _is_finite(record.get("loss"))]
    if bad:
        yield Finding(level="warning", check="numbers", message=f"the loss was not finite at {len(bad)} logged steps")
    skipped = records[-1].get("num_skipped", 0) if records else 0
    yield Finding(level="ok", check="numbers", message=f"{len(records)} logged steps, {skipped} updates skipped")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _examine_lines(run: RunDirectory, fix: bool) -> Iterator[Finding]:
    for path in (run.metrics, run.training_log):
        torn = files.torn_bytes(path)
        if torn:
            if fix:
                files.trim_torn_line(path)
            yield Finding(
                level="mended" if fix else "warning",
                check="lines",
                message=f"{path}: {'cut' if fix else 'ends in'} a torn line of {torn} bytes",
                hint=None if fix else "--fix cuts it, and so does the next `tttkit resume`",
            )
    bad = sum(not _is_record(line) for line in run.metric_lines())
    if bad:
        message = f"{run.metrics}: {bad} lines are no records; readers pass over them"
        yield Finding(level="warning", check="lines", message=message)


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line)["step"], int)
    except (ValueError, TypeError, KeyError):
        return False


def _examine_data(run: RunDirectory, _fix: bool) -> Iterator[Finding]:
    recorded = _metadata(run).get("data")
    if not isinstance(recorded, dict) or "path" not in recorded:
        return
    try:
        fingerprint = files.read_json(Path(recorded["path"]) / "manifest.json").get("fingerprint")
    except (TttkitError, AttributeError) as error:
        yield Finding(level="error", check="data", message=f"the data of this run cannot be read: {error}")
        return
    if fingerprint != recorded.get("fingerprint"):
        message = f"{recorded['path']} is other data now than when the run began"
        hint = "put the data back, or go on with --allow-data-change"
        yield Finding(level="error", check="data", message=message, hint=hint)
    else:
        message = f"{recorded['path']} is the data that the run began with"
        hint = f"its shards in full: tttkit data verify {recorded['path']}"
        yield Finding(level="ok", check="data", message=message, hint=hint)


def _examine_disk(run: RunDirectory, _fix: bool) -> Iterator[Finding]:
    """What the rest of the run will need: one more state, the final model, a copy of each that is replaced."""
    free = shutil.disk_usage(run.path).free
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in _committed(run)]
    needed = 3 * max(sizes, default=0)
    level: Level = "ok" if free >= needed else "warning"
    message = f"{free / 1e9:,.2f} GB free, the rest of the run takes at most {needed / 1e9:,.2f} GB at once"
    yield Finding(level=level, check="disk", message=message, hint=None if level == "ok" else "free space")


def _examine_clock(run: RunDirectory, _fix: bool) -> Iterator[Finding]:
    now = datetime.datetime.now(datetime.UTC)
    segments = _metadata(run).get("segments") or []
    times = [segment.get(key) for segment in segments if isinstance(segment, dict) for key in ("started", "ended")]
    ahead = [time for time in times if time and datetime.datetime.fromisoformat(time) > now]
    if ahead:
        message = f"{len(ahead)} recorded times lie in the future, up to {max(ahead)}: a clock was or is wrong"
        yield Finding(level="warning", check="clock", message=message, hint="order and resume do not depend on it")
    else:
        yield Finding(level="ok", check="clock", message="no recorded time lies in the future")


def _metadata(run: RunDirectory) -> dict[str, Any]:
    try:
        return run.read_metadata()
    except DataError:
        return {}
