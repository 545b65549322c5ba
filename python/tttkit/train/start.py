"""From a configuration to a running Trainer: open the run directory, prepare data, build or resume, train."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from tttkit.config.run import Config
from tttkit.data import open_split, prepare_dataset
from tttkit.data.job import Prepared, PrepareProgress
from tttkit.data.manifest import Manifest, load_manifest
from tttkit.data.split import Split
from tttkit.device import prepare_cpu, prepare_device
from tttkit.errors import PreemptedError, TttkitError
from tttkit.models import build_model
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit.run.threads import describe_threads
from tttkit.train.batches.initial_state import warnings_about
from tttkit.train.checks import (
    check_disk,
    check_splits,
    refuse_old_version,
    refuse_other_config,
    refuse_other_data,
    resolve,
)
from tttkit.train.directory import make_or_accept, sweep, withdraw
from tttkit.train.events import Report, Resumed
from tttkit.train.logs.environment import changes, environment
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.options import RunOptions
from tttkit.train.plan import plan_event
from tttkit.train.resume.checkpoint import LoadedCheckpoint
from tttkit.train.threads import ThreadWatch, choose_for_run
from tttkit.train.trainer import Trainer

ENDED = ("finished", "early-stopped")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended."""

    reason: str
    """`finished` or `early-stopped`."""
    run: RunDirectory
    already_ended: bool = False
    """Whether the run had ended before this call."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of `train`, with the run directory that it holds."""

    config: Config
    options: RunOptions
    run: RunDirectory
    report: Report
    prepare_progress: PrepareProgress | None
    signals: StopSignals
    old: dict[str, Any] | None
    """metadata.json of an earlier call; None for a new run."""


def train(
    config: Config,
    out: Path,
    *,
    options: RunOptions | None = None,
    report: Report,
    prepare_progress: PrepareProgress | None = None,
    signals: StopSignals | None = None,
) -> Outcome:
    """Train `config` in the run directory `out`, or resume the unfinished run there if it has the same configuration.

    `report` gets the typed events of `train.events`. The caller has entered `signals`; without them this function
    handles signals itself. Raises UsageError for a run of another configuration or version or a path that is not a run,
    RunLockedError, DataError, CheckpointError, NumericalError, DeviceMemoryError, DiskFullError, PreemptedError.
    """
    options = options or RunOptions()
    run = make_or_accept(out, resume=options.resume)
    with ExitStack() as stack:
        stack.enter_context(exclusive(run))
        sweep(run)
        old = run.read_metadata() if run.metadata.exists() else None
        call = _Call(
            config=config,
            options=options,
            run=run,
            report=report,
            prepare_progress=prepare_progress,
            signals=signals or stack.enter_context(StopSignals(grace_seconds=options.grace_seconds)),
            old=old,
        )
        return _train(call)


def _train(call: _Call) -> Outcome:
    has_ended = call.old is not None and call.old.get("result", {}).get("reason") in ENDED
    if call.old is not None and not has_ended:
        refuse_old_version(call.old, call.run)
    try:
        trainer = _set_up(call, has_ended=has_ended)
    except StopRequestedError as stop:
        raise PreemptedError(
            f"stopped by {stop} before the first step", hint="run the same command again to start"
        ) from None
    except TttkitError:
        if call.old is None:
            withdraw(call.run)
        raise
    if trainer is None:
        assert call.old is not None
        return Outcome(reason=call.old["result"]["reason"], run=call.run, already_ended=True)
    return Outcome(reason=trainer.run(), run=call.run)


def _set_up(call: _Call, *, has_ended: bool) -> Trainer | None:
    """Do everything before the first step; return None if the run had ended before. Raises StopRequestedError."""
    call.signals.poll()
    old, run, options = call.old, call.run, call.options
    if old and "data" in old:  # compared before data is prepared, which takes time and would replace the run's data
        refuse_other_config(old, resolve(call.config, old["config"]["model"]["vocab_size"]), run, options)
    log = RunLog(run)
    command = options.command or sys.argv
    metadata = Metadata(run, old, log.writes) if old else Metadata.new(run, call.config, command, log.writes)
    data_path, manifest = _prepare_data_of(call, metadata, log)
    config = resolve(call.config, manifest.vocab_size)
    splits = {name: open_split(data_path, name, io=config.data.io) for name in ("train", "validation")}
    check_splits(config, splits)
    accepted: list[str] = []
    if old:
        accepted += refuse_other_config(old, config, run, options)
        accepted += refuse_other_data(old, splits, run, options)
    if has_ended:
        return None
    trainer = _build_trainer(call, config, splits, metadata, log)
    _choose_threads(call, trainer)
    _begin(trainer, data_path, accepted)
    return trainer


def _prepare_data_of(call: _Call, metadata: Metadata, log: RunLog) -> tuple[Path, Manifest]:
    """Prepare or find the data. A signal during this ends the segment of a new run as preempted."""
    if not call.old:
        call.signals.before_leaving = lambda: metadata.end_segment(0, "preempted")
    log.heartbeat("starting", 0)
    try:
        data = _prepare_data(call)
        call.signals.poll()
    except StopRequestedError:
        if not call.old:
            metadata.end_segment(0, "preempted")
        raise
    return data


def _prepare_data(call: _Call) -> tuple[Path, Manifest]:
    """Return the DATA directory of the configuration, or prepare one from its source inside the run directory."""
    data = call.config.data
    if data.path is not None:
        return Path(data.path), load_manifest(Path(data.path))

    def progress(prepared: Prepared) -> None:
        call.signals.poll()
        if call.prepare_progress is not None:
            call.prepare_progress(prepared)

    path = call.run.path / "data"
    manifest = prepare_dataset(
        [data.source],
        path,
        tokenizer=data.tokenizer,
        validation=[data.validation] if data.validation else None,
        validation_fraction=data.validation_fraction,
        documents=data.documents,
        progress=progress,
    )
    return path, manifest


def _build_trainer(call: _Call, config: Config, splits: dict[str, Split], metadata: Metadata, log: RunLog) -> Trainer:
    """Prepare the device, seed the random generators, and build model and trainer."""
    assert config.train.device is not None
    prepare_device(config.train.device, exact=config.train.precision == "fp32")
    prepare_cpu()
    torch.manual_seed(config.train.seed)
    return Trainer(
        call.run,
        config,
        build_model(config.model),
        splits,
        device=torch.device(config.train.device),
        metadata=metadata,
        log=log,
        report=call.report,
        signals=call.signals,
        auto_microbatch=call.options.auto_microbatch,
    )


def _choose_threads(call: _Call, trainer: Trainer) -> None:
    """Choose and record the number of CPU threads. A signal during this ends the segment of a new run as preempted."""
    try:
        choice = choose_for_run(trainer.config, trainer.model, call.old, call.signals.poll)
    except StopRequestedError:
        if not call.old:
            trainer.metadata.end_segment(0, "preempted")
        raise
    trainer.metadata.values["threads"] = choice.to_dict()
    if trainer.model.device.type == "cpu":
        tokens = trainer.config.train.tokens_per_step
        trainer.thread_watch = ThreadWatch(choice, tokens_per_step=tokens, run=call.run.argument)


def _begin(trainer: Trainer, data_path: Path, accepted: list[str]) -> None:
    """Resume if there is a training checkpoint, describe the run in metadata.json, and report warnings and the plan."""
    config, metadata = trainer.config, trainer.metadata
    before = metadata.values.get("environment", {}) if metadata.values["segments"] else {}
    changed = changes(before, environment())
    loaded = trainer.resume()
    plan = plan_event(trainer, resumed=loaded is not None)
    disk_warning = check_disk(trainer.run_directory, plan)
    data: dict[str, Any] = {"path": str(data_path.absolute()), "fingerprint": trainer.splits["train"].fingerprint}
    data |= {f"{name}_tokens": split.num_tokens for name, split in trainer.splits.items()}
    metadata.describe(config, data, {"name": config.model.name, "num_parameters": plan.num_parameters})
    step, how = trainer.progress.step, trainer.updater.how
    metadata.begin_segment(step, resumed=loaded is not None)
    for line in accepted:
        trainer.warn(f"allowed difference: {line}")
    for line in changed:
        trainer.warn(f"environment changed, so results may not be bit-identical: {line}")
    messages = warnings_about(config)
    messages += [how] if how.endswith("found") else []  # a compiler or Triton is missing
    for message in [*messages, *([disk_warning] if disk_warning else [])]:
        trainer.warn(message)
    if loaded:
        _report_resumed(trainer, loaded)
    trainer.log.write(how)
    trainer.log.write(describe_threads(metadata.values["threads"]))
    trainer.log.write(f"{'resumed at' if loaded else 'started at'} step {step} of {config.train.max_steps}")
    trainer.report(plan)


def _report_resumed(trainer: Trainer, loaded: LoadedCheckpoint) -> None:
    """Report what was verified, what was skipped and what is computed again."""
    for line in loaded.skipped:
        trainer.warn(f"skipped damaged training checkpoint {line}")
    trainer.report(
        Resumed(
            step=loaded.step,
            state=loaded.path.name,
            num_bytes=loaded.num_bytes,
            skipped=loaded.skipped,
            num_steps_lost=trainer.proof.num_lost,
        )
    )
