"""Find the training checkpoints of a run on disk, and describe what is saved. Imports no torch.

Every message about saved work is built here from the files on disk, because a save that a process started may never
have reached the disk.
"""

from __future__ import annotations

import re
from pathlib import Path

from tttkit.run.directory import RunDirectory

ENDED = ("finished", "early-stopped")
"""Reasons of a run that ended by itself, which are also its states in `tttkit status`."""
PRUNED = "pruned"
"""State of a run that a study trains no further, because others do better (`tttkit.run.pruned_file`)."""
_NAME = re.compile(r"^step_(\d+)$")


def training_checkpoints(run: RunDirectory) -> list[tuple[int, Path]]:
    """Return step and directory of every committed training checkpoint, newest first. Raises OSError."""
    try:
        names = [entry.name for entry in run.states.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [match for name in names if (match := _NAME.match(name))]
    return sorted(((int(match[1]), run.states / match[0]) for match in matches), reverse=True)


def newest_saved_step(run: RunDirectory) -> int | None:
    """Return the step of the newest training checkpoint on disk, None before the first. Raises OSError."""
    checkpoints = training_checkpoints(run)
    return checkpoints[0][0] if checkpoints else None


def describe_saved(saved_step: int | None, step: int | None = None) -> str:
    """Describe what a run that stopped at `step` (None if unknown) has saved, given the newest step on disk."""
    if saved_step is None:
        return "no training checkpoint was saved"
    if step is None:
        return f"the newest training checkpoint is of step {saved_step}; steps after it are lost"
    lost = step - saved_step
    if lost <= 0:
        return f"training checkpoint of step {saved_step} saved"
    lost_steps = "1 step after it is lost" if lost == 1 else f"{lost} steps after it are lost"
    return f"the newest training checkpoint is of step {saved_step}; {lost_steps}"
