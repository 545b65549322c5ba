"""From configuration values to a running Trainer: claim the run directory, prepare data, build or resume, train."""

from __future__ import annotations

import dataclasses
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import Config
from tttkit.data import open_split, prepare_dataset
from tttkit.data.job import Prepared
from tttkit.data.job import Progress as PrepareProgress
from tttkit.data.manifest import Manifest, load_manifest
from tttkit.device import prepare_cpu, resolve_device
from tttkit.errors import PreemptedError, TttkitError, UsageError
from tttkit.models import build_model
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit.storage import commits, files, filesystem
from tttkit.train.batches.initial_state import warnings_about
from tttkit.train.checks import check_disk, check_splits, refuse_other_config, refuse_other_data
from tttkit.train.evaluator import Report
from tttkit.train.logs.environment import changes, environment
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.options import RunOptions
from tttkit.train.plan import plan_event
from tttkit.train.resume.checkpoint import LoadedState
from tttkit.train.trainer import Trainer

_ENDED = ("finished", "early-stopped")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended: `finished` or `early-stopped`, and whether the run had ended before."""

    reason: str
    run: RunDirectory
    already_ended: bool = False


def train(
    config: Config,
    out: Path,
    *,
    options: RunOptions,
    report: Report,
    prepare_progress: PrepareProgress | None = None,
    signals: StopSignals | None = None,
) -> Outcome:
    """Train what `config` says in the run directory `out`; resume where an earlier call with the same config stopped.

    `signals` have been entered by the caller; without them this enters its own. Raises UsageError for another config or
    a path that is no run, RunLockedError, DataError, CheckpointError, NumericalError, DeviceMemoryError, DiskFullError,
    PreemptedError.
    """
    run = _claim_directory(out, resume=options.resume)
    with ExitStack() as stack:
        stack.enter_context(exclusive(run))
        _sweep(run)
        request = _Request(config=config, options=options, report=report, prepare_progress=prepare_progress)
        return _train(run, request, signals or stack.enter_context(StopSignals()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request:
    config: Config
    options: RunOptions
    report: Report
    prepare_progress: PrepareProgress | None = None


def _train(run: RunDirectory, request: _Request, signals: StopSignals) -> Outcome:
    old = run.read_metadata() if run.metadata.exists() else None
    try:
        trainer = _set_up(run, old, request, signals)
    except StopRequestedError as stop:
        raise PreemptedError(
            f"stopped by {stop} before the first step", hint="run the same command again to start"
        ) from None
    except TttkitError:
        if old is None:
            _withdraw(run)
        raise
    if trainer is None:
        assert old is not None
        return Outcome(reason=old["result"]["reason"], run=run, already_ended=True)
    return Outcome(reason=trainer.run(), run=run)


def _set_up(run: RunDirectory, old: dict[str, Any] | None, request: _Request, signals: StopSignals) -> Trainer | None:
    """Everything before the first step; None when the run had ended before. Raises StopRequestedError in between."""
    signals.poll()
    config = request.config
    if old and "data" in old:  # said before data are prepared, which takes time and would replace those of the run
        of_run = _resolve(config, old["config"]["model"]["vocab_size"])
        refuse_other_config(old, of_run, run, request.options)
    log = RunLog(run)
    metadata = (
        Metadata(run, old, log.writes) if old else Metadata.new(run, config, list(request.options.command), log.writes)
    )
    if not old:
        signals.before_leaving = lambda: metadata.end_segment(0, "preempted")
    log.heartbeat("starting", 0)
    try:
        data_path, manifest = _prepare_data(config, run, request, signals)
        signals.poll()
    except StopRequestedError:
        if not old:
            metadata.end_segment(0, "preempted")
        raise
    config = _resolve(config, manifest.vocab_size)
    splits = {name: open_split(data_path, name, io=config.data.io) for name in ("train", "validation")}
    check_splits(config, splits)
    accepted = []
    if old:
        accepted = refuse_other_config(old, config, run, request.options)
        accepted += refuse_other_data(old, splits, run, request.options)
    if old and old.get("result", {}).get("reason") in _ENDED:
        return None
    usual = None if "OMP_NUM_THREADS" in os.environ else len(os.sched_getaffinity(0))
    prepare_cpu(config.train.num_threads or usual)
    torch.manual_seed(config.train.seed)
    assert config.train.device is not None
    trainer = Trainer(
        run,
        config,
        build_model(config.model),
        splits,
        device=torch.device(config.train.device),
        metadata=metadata,
        log=log,
        report=request.report,
        signals=signals,
        auto_microbatch=request.options.auto_microbatch,
    )
    _begin(trainer, data_path, accepted)
    return trainer


def _resolve(config: Config, vocab_size: int) -> Config:
    device = resolve_device(config.train.device, exact=config.train.precision == "fp32")
    return resolve_config(config, Facts(vocab_size=vocab_size, device=device))


def _sweep(run: RunDirectory) -> None:
    """Remove what interrupted writes left, wherever a run writes."""
    for directory in (run.path, run.states, *run.checkpoints().values()):
        if directory.is_dir():
            commits.sweep_temporaries(directory)


def _withdraw(run: RunDirectory) -> None:
    """Take back what a refused request had begun, so that the path is free for the corrected one."""
    with suppress(OSError):  # prepared data stays for the next call
        for path in (run.metadata, run.heartbeat, run.training_log, run.metrics, run.lock):
            files.remove_tree(path)
        filesystem.current.rmdir(run.path)


def _claim_directory(out: Path, *, resume: bool) -> RunDirectory:
    """Make `out`, or accept it when it is a run. Raises UsageError for anything else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"the run directory {out} is a file", hint="choose another --out")
    run = RunDirectory(out)
    if run.metadata.exists():
        if not resume:
            raise UsageError(
                f"{out} already holds a run", hint="drop --no-resume to go on with it, or choose another --out"
            )
        return run
    if out.exists() and any(
        entry.name not in ("run.lock", "data") and not entry.name.startswith(files.TEMPORARY_PREFIX)
        for entry in out.iterdir()
    ):
        raise UsageError(f"{out} is not empty and holds no run", hint="choose another --out")
    try:
        with files.disk_full_named(out):
            files.make_directory(out)
    except OSError as error:
        if isinstance(error, TttkitError):
            raise
        raise UsageError(f"cannot make the run directory {out}: {error.strerror}") from error
    return run


def _prepare_data(config: Config, run: RunDirectory, request: _Request, signals: StopSignals) -> tuple[Path, Manifest]:
    """The DATA directory named, or one made from the preset's source inside the run."""
    if config.data.path is not None:
        path = Path(config.data.path)
        return path, load_manifest(path)

    def progress(prepared: Prepared) -> None:
        signals.poll()
        if request.prepare_progress is not None:
            request.prepare_progress(prepared)

    path = run.path / "data"
    manifest = prepare_dataset(
        [config.data.source],
        path,
        tokenizer=config.data.tokenizer,
        validation=[config.data.validation] if config.data.validation else None,
        validation_fraction=config.data.validation_fraction,
        documents=config.data.documents,
        progress=progress,
    )
    return path, manifest


def _begin(trainer: Trainer, data_path: Path, accepted: list[str]) -> None:
    """Describe the run in metadata.json, resume when there is a state, and announce the plan."""
    config, run, metadata = trainer.config, trainer.run_directory, trainer.metadata
    num_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    train_split = trainer.splits["train"]
    data: dict[str, Any] = {"path": str(data_path.absolute()), "fingerprint": train_split.fingerprint}
    data |= {f"{name}_tokens": split.num_tokens for name, split in trainer.splits.items()}
    changed = changes(metadata.values.get("environment", {}), environment()) if metadata.values["segments"] else []
    state = trainer.resume()
    plan = plan_event(trainer, resumed=state is not None)
    warning = check_disk(run, plan)
    metadata.describe(config, data, {"name": config.model.name, "num_parameters": num_parameters})
    step, how = trainer.progress.step, trainer.updater.how
    metadata.begin_segment(step, resumed=state is not None)
    messages = [f"allowed difference: {line}" for line in accepted]
    messages += [f"environment changed, equal bits are not promised: {line}" for line in changed]
    messages += warnings_about(config)
    messages += [how] if how.endswith("found") else []  # a compiler, Triton
    for message in [*messages, *([warning] if warning else [])]:
        trainer.log.write(message)
        trainer.report({"event": "warning", "step": step, "message": message})
    if state:
        _tell_resumed(trainer, state)
    trainer.log.write(how)
    trainer.log.write(f"{'resumed at' if state else 'started at'} step {step} of {config.train.max_steps}")
    trainer.report(plan)


def _tell_resumed(trainer: Trainer, state: LoadedState) -> None:
    """Say what was verified, what was skipped and what is done again."""
    for line in state.skipped:
        message = f"skipped damaged state {line}"
        trainer.log.write(message)
        trainer.report({"event": "warning", "step": state.step, "message": message})
    trainer.report(
        {
            "event": "resumed",
            "step": state.step,
            "state": state.path.name,
            "num_bytes": state.num_bytes,
            "skipped": state.skipped,
            "num_steps_lost": trainer.proof.num_lost,
        }
    )
