"""From configuration values to a running Trainer: claim the run directory, prepare data, build or resume, train."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from tttkit import files
from tttkit.config import Config, build_config
from tttkit.config_layers import difference
from tttkit.data import open_split, prepare_dataset
from tttkit.data.manifest import Manifest, load_manifest
from tttkit.data.split import Split
from tttkit.device import resolve_device
from tttkit.errors import DataError, TttkitError, UsageError
from tttkit.models import build_model
from tttkit.rundir import RunDirectory, exclusive
from tttkit.train.carry import warnings_about, with_decay
from tttkit.train.metadata import Metadata
from tttkit.train.metrics import RunLog
from tttkit.train.plan import plan_event
from tttkit.train.signals import StopSignals
from tttkit.train.trainer import Report, Trainer

PrepareProgress = Callable[[int, int | None, int], None]
_ENDED = ("finished", "early-stopped")
_FREE_KEYS = {
    "train.save_every",
    "train.log_every",
    "train.inner_loss_every",
    "train.keep_weights",
    "train.num_threads",
}
"""What may change between the segments of a run: it does not change what is computed (threads are recorded)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended: `finished` or `early-stopped`, and whether the run had ended before."""

    reason: str
    run: RunDirectory
    already_ended: bool = False


def train(
    values: dict[str, Any],
    out: Path,
    *,
    report: Report,
    prepare_progress: PrepareProgress | None = None,
    resume: bool = True,
    command: list[str] | None = None,
) -> Outcome:
    """Train what `values` say in the run directory `out`; go on where an earlier call with the same values stopped.

    Raises UsageError for another config or a path that is no run, RunLockedError, DataError, CheckpointError,
    NumericalError, DiskFullError, PreemptedError.
    """
    run = _claim_directory(out, resume=resume)
    with ExitStack() as stack:
        stack.enter_context(exclusive(run))
        signals = stack.enter_context(StopSignals())
        files.sweep_temporaries(run.path)
        old = run.read_metadata() if run.metadata.exists() else None
        try:
            trainer = _set_up(run, old, values, report, signals, prepare_progress, command or sys.argv)
        except TttkitError:
            if old is None:
                _withdraw(run)
            raise
        if trainer is None:
            assert old is not None
            return Outcome(reason=old["result"]["reason"], run=run, already_ended=True)
        return Outcome(reason=trainer.run(), run=run)


def _set_up(
    run: RunDirectory,
    old: dict[str, Any] | None,
    values: dict[str, Any],
    report: Report,
    signals: StopSignals,
    progress: PrepareProgress | None,
    command: list[str],
) -> Trainer | None:
    """Everything before the first step; None when the run had ended before."""
    config = build_config(values)
    metadata = Metadata(run, old) if old else Metadata.new(run, config, command)
    log = RunLog(run)
    log.heartbeat("starting", 0)
    data_path, manifest = _prepare_data(config, run, progress)
    config = resolve(config, manifest, explicit_vocab_size=values.get("model", {}).get("vocab_size"))
    splits = {name: open_split(data_path, name) for name in ("train", "validation")}
    check_splits(config, splits)
    if old:
        _refuse_other_run(old, config, splits, run)
        if old.get("result", {}).get("reason") in _ENDED:
            return None
    trainer = _build_trainer(run, config, splits, metadata, log, report, signals)
    _begin(trainer, data_path)
    return trainer


def _withdraw(run: RunDirectory) -> None:
    """Take back what a refused request had begun, so that the path is free for the corrected one."""
    for path in (run.metadata, run.heartbeat, run.training_log, run.lock):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # prepared data stays for the next call
        run.path.rmdir()


def resolve(config: Config, manifest: Manifest, *, explicit_vocab_size: int | None = None) -> Config:
    """Fill in what depends on the data and the machine: vocabulary, device, precision. Raises UsageError."""
    if explicit_vocab_size not in (None, manifest.vocab_size):
        raise UsageError(
            f"model.vocab_size is {explicit_vocab_size}, but the data's tokenizer has {manifest.vocab_size} tokens",
            hint="leave model.vocab_size out: it is taken from DATA",
        )
    device = resolve_device(config.train.device)
    precision = config.train.precision or ("bf16" if device.startswith("cuda") else "fp32")
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            with_decay(config), vocab_size=manifest.vocab_size, sliding_window=_sliding_window(config)
        ),
        train=dataclasses.replace(config.train, device=device, precision=precision),
    )


def check_splits(config: Config, splits: dict[str, Split]) -> None:
    """Refuse data too short for a window or for the evaluation. Raises DataError, or UsageError naming the maximum."""
    window, length = config.train.window, config.evaluation.max_length
    for name, split in splits.items():
        if split.num_tokens < window + 1:
            raise DataError(
                f"the {name} split has {split.num_tokens} tokens, one window of W={window} needs {window + 1}"
            )
    if config.evaluation.num_checkpoints == 0:
        return
    num_tokens = splits["validation"].num_tokens
    most = num_tokens // (length + 1)
    if most == 0:
        raise DataError(
            f"the validation split has {num_tokens} tokens, one sequence of T={length} needs {length + 1}",
            hint="lower --eval-max-length, or prepare more validation text",
        )
    if config.evaluation.num_sequences > most:
        raise UsageError(
            f"evaluation.num_sequences is {config.evaluation.num_sequences}, the validation split holds {most} "
            f"disjoint sequences of T={length}",
            hint=f"--eval-num-sequences {most}",
        )


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
        entry.name not in ("run.lock", "data") and not entry.name.startswith(".tmp-") for entry in out.iterdir()
    ):
        raise UsageError(f"{out} is not empty and holds no run", hint="choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the run directory {out}: {error.strerror}") from error
    return run


def _prepare_data(config: Config, run: RunDirectory, progress: PrepareProgress | None) -> tuple[Path, Manifest]:
    """The DATA directory named, or one made from the preset's source inside the run."""
    if config.data.path is not None:
        path = Path(config.data.path)
        return path, load_manifest(path)
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


def _sliding_window(config: Config) -> int:
    """The `sw` model attends over the training window."""
    return config.train.window if config.model.architecture == "sw" else config.model.sliding_window


def _refuse_other_run(old: dict[str, Any], config: Config, splits: dict[str, Split], run: RunDirectory) -> None:
    """Refuse to go on with another config or other data than the run was started with."""
    if "data" not in old:
        return  # it ended before it knew its data, so it trained nothing
    changed = [line for line in difference(old["config"], config.to_dict()) if line.partition(":")[0] not in _FREE_KEYS]
    if changed:
        raise UsageError(
            f"{run.path} holds a run of another configuration: {'; '.join(changed)}",
            hint="repeat its options to go on with it, or choose another --out",
        )
    fingerprint = splits["train"].fingerprint
    if old["data"]["fingerprint"] != fingerprint:
        raise UsageError(
            f"{run.path} was started on other data: fingerprint {old['data']['fingerprint'][:12]}, "
            f"now {fingerprint[:12]}",
            hint="choose another --out",
        )


def _build_trainer(
    run: RunDirectory,
    config: Config,
    splits: dict[str, Split],
    metadata: Metadata,
    log: RunLog,
    report: Report,
    signals: StopSignals,
) -> Trainer:
    torch.set_num_threads(config.train.num_threads or len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)
    torch.manual_seed(config.train.seed)
    assert config.train.device is not None
    return Trainer(
        run,
        config,
        build_model(config.model),
        splits,
        device=torch.device(config.train.device),
        metadata=metadata,
        log=log,
        report=report,
        signals=signals,
    )


def _begin(trainer: Trainer, data_path: Path) -> None:
    """Describe the run in metadata.json, resume when there is a state, and announce the plan."""
    config = trainer.config
    num_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    train_split = trainer.splits["train"]
    data: dict[str, Any] = {"path": str(data_path.absolute()), "fingerprint": train_split.fingerprint}
    data |= {f"{name}_tokens": split.num_tokens for name, split in trainer.splits.items()}
    trainer.metadata.describe(config, data, {"name": config.model.name, "num_parameters": num_parameters})
    state = trainer.resume()
    step = trainer.progress.step
    trainer.metadata.begin_segment(step, resumed=state is not None)
    for line in state.skipped if state else ():
        trainer.log.write(f"skipped damaged state {line}")
        trainer.report({"event": "warning", "step": step, "message": f"skipped damaged state {line}"})
    missing = [trainer.feed.how] if trainer.feed.how.endswith("found") else []  # a compiler, Triton
    for message in warnings_about(config) + missing:
        trainer.log.write(message)
        trainer.report({"event": "warning", "step": step, "message": message})
    trainer.log.write(trainer.feed.how)
    trainer.log.write(f"{'resumed at' if state else 'started at'} step {step} of {config.train.max_steps}")
    trainer.report(plan_event(trainer, resumed=state is not None))
