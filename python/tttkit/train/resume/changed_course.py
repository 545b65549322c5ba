"""What a run had written after its training checkpoint, once it resumes with changed values and takes another course.

With unchanged values the same steps are computed again and give the same results, which replace the earlier ones. With
changed values they give other results, so the earlier ones are renamed to `NAME.superseded-n` and never mixed with the
new ones.
"""

from __future__ import annotations

import json
from pathlib import Path

from tttkit.errors import DataError
from tttkit.results.summary import SUMMARY_NAME, Summary
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits, files
from tttkit.train.resume.progress import TrainingProgress

SUPERSEDED = "superseded"


def set_later_results_aside(run: RunDirectory, progress: TrainingProgress) -> list[str]:
    """Set aside evaluations that `progress` does not know, a best model of one of them, and records of later steps.

    `progress` comes from the training checkpoint. Returns a message for each. Raises DataError, DiskFullError, OSError.
    """
    moved = [path for path in run.checkpoints().values() if _step_of(path) not in (None, *progress.evaluated)]
    messages = [f"{path.name} is now {commits.set_aside(path, SUPERSEDED).name}" for path in moved]
    if _training_step_of(run.best_model) not in (None, *progress.evaluated):
        messages.append(f"best_model is now {commits.set_aside(run.best_model, SUPERSEDED).name}")
    for step, path in training_checkpoints(run):
        if step > progress.step:
            messages.append(f"the training checkpoint of step {step} is now {commits.set_aside(path, SUPERSEDED).name}")
    lines = run.metric_lines()
    kept = [line for line in lines if not _is_later(line, progress.step)]
    if len(kept) < len(lines):
        aside = commits.name_aside(run.metrics, SUPERSEDED)
        files.write_text(aside, "".join(f"{line}\n" for line in lines))
        files.write_text(run.metrics, "".join(f"{line}\n" for line in kept))
        messages.append(f"{len(lines) - len(kept)} records after step {progress.step} are in {aside.name}")
    return messages


def _step_of(evaluation: Path) -> int | None:
    """Return the step of an evaluation; None if its summary is missing or damaged."""
    try:
        return Summary.read(evaluation / SUMMARY_NAME).step
    except DataError:
        return None


def _training_step_of(model: Path) -> int | None:
    """Return the step of a model; None if there is none or it does not say."""
    try:
        config = files.read_json(model / "config.json")
    except DataError:
        return None
    return config.get("step") if isinstance(config, dict) else None


def _is_later(line: str, step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) > step
    except (ValueError, KeyError, TypeError):
        return False
