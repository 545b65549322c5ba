"""The beginning of a process that trains: describe the run in metadata.json, and report what changed and the plan."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tttkit.run.data_location import path_to_record
from tttkit.run.threads import describe_threads
from tttkit.train.batches.initial_state import warnings_about
from tttkit.train.checks import check_disk
from tttkit.train.events import Plan, Resumed
from tttkit.train.logs.environment import changes, environment
from tttkit.train.plan import plan_event
from tttkit.train.resume.changed_course import set_later_results_aside
from tttkit.train.resume.changes import learning_rate_change
from tttkit.train.resume.checkpoint import LoadedCheckpoint
from tttkit.train.trainer import Trainer


def begin(trainer: Trainer, loaded: LoadedCheckpoint | None, data_path: Path, changed: list[str]) -> None:
    """Describe the run in metadata.json, and report `changed`, the changes of its configuration, and the plan."""
    metadata, progress = trainer.metadata, trainer.progress
    messages = list(changed)
    if changed and loaded:
        messages += set_later_results_aside(trainer.run_directory, progress)
        messages += learning_rate_change(metadata.values["config"], trainer)
        trainer.proof.forget()
    if loaded and not trainer.run_directory.best_model.is_dir():
        trainer.early_stopping.forget_best()
    before = metadata.values.get("environment", {}) if metadata.values["segments"] else {}
    messages += [
        f"environment changed, so results may not be bit-identical: {line}" for line in changes(before, environment())
    ]
    plan = plan_event(trainer, resumed=loaded is not None)
    disk_warning = check_disk(trainer.run_directory, plan)
    _describe(trainer, plan, data_path)
    metadata.begin_segment(progress.step, resumed=loaded is not None)
    how = trainer.updater.how
    messages += warnings_about(trainer.config)
    messages += [how] if how.endswith("found") else []  # a compiler or Triton is missing
    for message in [*messages, *([disk_warning] if disk_warning else [])]:
        trainer.warn(message)
    if loaded:
        _report_resumed(trainer, loaded)
    trainer.log.write(how)
    trainer.log.write(describe_threads(metadata.values["threads"]))
    trainer.log.write(f"{'resumed at' if loaded else 'started at'} step {progress.step} of {plan.max_steps}")
    trainer.report(plan)


def _describe(trainer: Trainer, plan: Plan, data_path: Path) -> None:
    """Record configuration, data and model in metadata.json, with paths that stay valid if the run is moved."""
    config = trainer.config
    if config.data.path is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(data_path.absolute())))
    data: dict[str, Any] = {
        "path": path_to_record(trainer.run_directory, data_path),
        "fingerprint": trainer.splits["train"].fingerprint,
    }
    data |= {f"{name}_tokens": split.num_tokens for name, split in trainer.splits.items()}
    trainer.metadata.values["num_evaluations_planned"] = plan.num_evaluations_done + plan.num_evaluations_ahead
    trainer.metadata.values["world_size"] = trainer.ranks.world.size
    trainer.metadata.describe(config, data, {"name": config.model.name, "num_parameters": plan.num_parameters})


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
