"""From a configuration to a running Trainer: open the run directory, prepare data, build or resume, train."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tttkit.config.run import Config
from tttkit.data import open_split
from tttkit.data.job import Prepared, PrepareProgress
from tttkit.data.manifest import Manifest, load_manifest
from tttkit.data.split import Split
from tttkit.device import prepare_cpu, prepare_device
from tttkit.distributed.group import joined
from tttkit.distributed.ranks import Ranks
from tttkit.distributed.support import device_of_rank, refuse_unsupported
from tttkit.errors import PreemptedError, TttkitError
from tttkit.models import build_model
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.run.ranks_file import RanksFile
from tttkit.run.saved import ENDED
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit.run.world import world_of
from tttkit.train.begin import begin
from tttkit.train.checks import check_memory, check_splits, resolve
from tttkit.train.directory import make_or_accept, sweep, withdraw
from tttkit.train.events import Report, Warned
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.logs.silent import SilentLog
from tttkit.train.options import RunOptions
from tttkit.train.parent.branch import start_branch
from tttkit.train.parent.record import parent_of
from tttkit.train.parent.warm_start import start_warm
from tttkit.train.resume.changes import (
    end_no_earlier,
    refuse_old_version,
    refuse_other_config,
    refuse_other_data,
    refuse_to_train_nothing,
)
from tttkit.train.resume.extension import Extension, extend
from tttkit.train.resume.progress import TrainingProgress
from tttkit.train.run_data import find_or_prepare_data, has_data
from tttkit.train.threads import ThreadWatch, choose_for_rank, choose_for_run
from tttkit.train.trainer import Trainer


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
    ranks: Ranks
    report_lost: Report
    """Reports on every rank that another one hangs; `report` is for rank 0."""

    @property
    def had_ended(self) -> bool:
        """Whether the run had ended by itself before this call."""
        return self.old is not None and self.old.get("result", {}).get("reason") in ENDED

    def following(self, extension: Extension) -> _Call:
        """Return the call with the configuration of an extension."""
        allowed = self.options.allow_change | extension.changed
        options = dataclasses.replace(self.options, allow_change=allowed)
        return dataclasses.replace(self, config=extension.config, options=options)

    def preparing(self, prepared: Prepared) -> None:
        """Report the progress of the data preparation. Raises StopRequestedError."""
        self.signals.poll()
        if self.prepare_progress is not None:
            self.prepare_progress(prepared)


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

    Under torchrun every rank calls this function; rank 0 alone locks the directory, writes and reports. `report` gets
    the typed events of `train.events`. The caller has entered `signals`; without them this function handles signals
    itself. Raises UsageError for a run of another configuration or version or a path that is not a run, RunLockedError,
    DataError, CheckpointError, NumericalError, DeviceMemoryError, DiskFullError, PreemptedError, RankLostError.
    """
    options = options or RunOptions()
    world = world_of()
    refuse_unsupported(config, world, auto_microbatch=options.auto_microbatch)
    with ExitStack() as stack:
        ranks = stack.enter_context(joined(world, timeout=config.train.rank_timeout))
        run = _open_run(out, options, stack, report) if world.is_first else RunDirectory(out)
        old = run.read_metadata() if world.is_first and run.metadata.exists() else None
        call = _Call(
            config=config,
            options=options,
            run=run,
            report=report if world.is_first else lambda _: None,
            prepare_progress=prepare_progress,
            signals=signals or stack.enter_context(StopSignals(grace_seconds=options.grace_seconds)),
            old=ranks.tell(old),
            ranks=ranks,
            report_lost=report,
        )
        return _train(call)


def _open_run(out: Path, options: RunOptions, stack: ExitStack, report: Report) -> RunDirectory:
    """Make or accept the run directory, lock it for as long as `stack` lasts, and clean it up."""
    run = make_or_accept(out, resume=options.resume)
    stack.enter_context(exclusive(run, lambda message: report(Warned(step=0, message=message))))
    sweep(run)
    return run


def _train(call: _Call) -> Outcome:
    try:
        trainer = _set_up(call)
    except StopRequestedError as stop:
        raise PreemptedError(
            f"stopped by {stop} before the first step", hint="run the same command again to start"
        ) from None
    except TttkitError:
        if call.old is None and call.ranks.world.is_first:
            withdraw(call.run)
        raise
    if trainer is None:
        assert call.old is not None
        return Outcome(reason=call.old["result"]["reason"], run=call.run, already_ended=True)
    return Outcome(reason=trainer.run(), run=call.run)


def _set_up(call: _Call) -> Trainer | None:
    """Do everything before the first step; return None if the run had ended before. Raises StopRequestedError."""
    call.signals.poll()
    extension = extend(call.old, call.config, call.options.allow_change)
    call = call.following(extension)
    old, run, options, world = call.old, call.run, call.options, call.ranks.world
    accepted: list[str] = []
    parent = parent_of(old, run, options) if world.is_first or old else None
    if old and not call.had_ended:
        refuse_old_version(old, run)
    if old and "data" in old:  # compared before data is prepared, which takes time and would replace the run's data
        accepted = refuse_other_config(old, _resolve(call, old["config"]["model"]["vocab_size"]), run, options, world)
        if call.had_ended and not accepted and not has_data(call.config, run):
            return None
    log = RunLog(run) if world.is_first else SilentLog()
    metadata = _metadata_of(call, log, parent)
    if call.ranks.watch is not None and world.is_first:
        call.ranks.watch.file = RanksFile(run)
    data_path, manifest = _prepare_data_of(call, metadata, log)
    config = _resolve(call, manifest.vocab_size)
    splits = {name: open_split(data_path, name, io=config.data.io) for name in ("train", "validation")}
    check_splits(config, splits)
    check_memory(config)
    if old:
        accepted = refuse_other_config(old, config, run, options, world) + refuse_other_data(old, splits, run, options)
    if call.had_ended and not accepted:
        return None
    config, shortened = end_no_earlier(config, run)
    trainer = _build_trainer(call, config, splits, metadata, log)
    loaded = trainer.resume(extension.at_most)
    messages = [f"allowed difference: {line}" for line in accepted] + shortened
    messages += [extension.message] if extension.message else []
    if loaded is None and "parent" in metadata.values:
        messages += _start_from(trainer, metadata.values["parent"], data_path)
    if call.had_ended:
        assert old is not None
        refuse_old_version(old, run)
        refuse_to_train_nothing(trainer, accepted)
    _choose_threads(call, trainer)
    if world.is_first:
        begin(trainer, loaded, data_path, messages)
    if call.ranks.watch is not None:
        call.ranks.watch.on_lost = partial(_note_hanging, call, trainer)
    trainer.early_stopping.load(call.ranks.tell(trainer.early_stopping.to_dict()))
    if loaded is None and "parent" in metadata.values:
        trainer.save()  # from here on the run is complete without its parent
    return trainer


def _note_hanging(call: _Call, trainer: Trainer, message: str) -> None:
    """Record and report, in the thread of the watch, that another rank hangs; then the process exits."""
    call.report_lost(Warned(step=trainer.progress.step, message=f"{message}; this rank ends too"))
    trainer.note_lost(message)


def _resolve(call: _Call, vocab_size: int) -> Config:
    return resolve(call.config, vocab_size, call.ranks.world.size)


def _metadata_of(call: _Call, log: RunLog, parent: dict[str, Any] | None) -> Metadata:
    """Return the record of an earlier call, or begin a new one, which rank 0 writes and tells the others."""
    if call.old is not None:
        return Metadata(call.run, call.old, log.writes)
    values = None
    if call.ranks.world.is_first:
        command = call.options.command or sys.argv
        values = Metadata.new(call.run, call.config, command, log.writes, parent).values
    return Metadata(call.run, call.ranks.tell(values), log.writes)


def _start_from(trainer: Trainer, parent: dict[str, Any], data: Path) -> list[str]:
    """Take weights, or everything, from the parent of a new run. Returns messages for the user."""
    if parent["how"] == "branch-from":
        return start_branch(trainer, parent, data)
    return start_warm(trainer.model, parent, data)


def _prepare_data_of(call: _Call, metadata: Metadata, log: RunLog) -> tuple[Path, Manifest]:
    """Prepare or find the data. A signal during this ends the segment of a new run as preempted."""
    if not call.old:
        call.signals.before_leaving = lambda: metadata.end_segment(TrainingProgress(), "preempted")
    log.heartbeat("starting", 0)
    try:
        if call.ranks.world.is_first:
            data = find_or_prepare_data(call.config, call.run, call.old, call.preparing)
            call.ranks.tell(str(data[0].absolute()))
        else:  # waits as long as rank 0 is alive
            path = Path(call.ranks.tell(None))
            data = path, load_manifest(path)
        call.signals.poll()
    except StopRequestedError:
        if not call.old:
            metadata.end_segment(TrainingProgress(), "preempted")
        raise
    return data


def _build_trainer(call: _Call, config: Config, splits: dict[str, Split], metadata: Metadata, log: RunLog) -> Trainer:
    """Prepare the device, seed the random generators, and build model and trainer."""
    assert config.train.device is not None
    device = device_of_rank(config.train.device, call.ranks.world)
    prepare_device(device, exact=config.train.precision == "fp32")
    prepare_cpu()
    torch.manual_seed(config.train.seed)
    return Trainer(
        call.run,
        config,
        build_model(config.model),
        splits,
        device=torch.device(device),
        metadata=metadata,
        log=log,
        report=call.report,
        signals=call.signals,
        auto_microbatch=call.options.auto_microbatch,
        ranks=call.ranks,
    )


def _choose_threads(call: _Call, trainer: Trainer) -> None:
    """Choose and record the number of CPU threads. A signal during this ends the segment of a new run as preempted."""
    try:
        if call.ranks.world.is_distributed:
            choice = choose_for_rank(trainer.config, call.ranks.world.local_size)
        else:
            choice = choose_for_run(trainer.config, trainer.model, call.old, call.signals.poll)
    except StopRequestedError:
        if not call.old:
            trainer.metadata.end_segment(TrainingProgress(), "preempted")
        raise
    trainer.metadata.values["threads"] = choice.to_dict()
    if trainer.model.device.type == "cpu":
        tokens = trainer.config.train.tokens_per_step
        trainer.thread_watch = ThreadWatch(choice, tokens_per_step=tokens, run=call.run.argument)
