"""Training checkpoints: save, verify, load, restore, retain. safetensors and JSON only.

`state/step_N/` holds `tensors.safetensors` (weights, both AdamW moments, random-number states), `state.json`
(everything else) and the manifest that `commits.commit_directory` writes. The data position is the step itself: the
order of windows is a pure function of (seed, step).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from tttkit.distributed.sharded import like, whole
from tttkit.errors import CheckpointError, DataError
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits, files
from tttkit.storage.tensor_file import write_tensors

SCHEMA_VERSION = 3
"""Version 3 counts tokens; older training checkpoints are still read."""
NUM_KEPT = 2
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedCheckpoint:
    """A verified training checkpoint, and the damaged ones that were skipped."""

    step: int
    path: Path
    num_bytes: int
    values: dict[str, Any]
    """Content of state.json."""
    tensors: dict[str, torch.Tensor]
    skipped: list[str]
    """New name and fault of each damaged training checkpoint that was newer."""


def save_checkpoint(
    run: RunDirectory,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    extra: dict[str, torch.Tensor] | None = None,
    *,
    stable_end: int | None = None,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Commit a training checkpoint after update `step`, then drop all but the newest two.

    The newest one up to step `stable_end` is kept too, because a longer run continues from it. `extra` holds the
    recurrent states of rows, besides weights, moments and random-number states. `weights` is the result of
    `whole_tensors`, if all ranks have called it before. Raises DiskFullError, OSError.
    """
    tensors = (whole_tensors(model, optimizer) if weights is None else weights) | (extra or {})
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    with commits.commit_directory(run.states / f"step_{step}") as directory:
        write_tensors(directory / "tensors.safetensors", tensors)
        files.write_json(directory / "state.json", {"schema_version": SCHEMA_VERSION, "step": step, **values})
    old = training_checkpoints(run)[NUM_KEPT:]
    newer = [at for at, _ in training_checkpoints(run)[:NUM_KEPT]]
    if stable_end is not None and min(newer, default=0) > stable_end:
        stable = [item for item in old if item[0] <= stable_end]
        old = [item for item in old if item not in stable[:1]]
    for _, path in old:
        commits.remove_directory(path)


def whole_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return weights and moments by their names in a training checkpoint. If they are sharded, all ranks must call it.

    Sharded tensors come to the memory of the host, one after the other.
    """
    tensors = {f"model.{name}": _collected(parameter.detach()) for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items() if parameter in optimizer.state else ():
            tensors[f"optimizer.{key}.{name}"] = _collected(value)
    return tensors


def _collected(tensor: torch.Tensor) -> torch.Tensor:
    all_of_it = whole(tensor)
    return tensor if all_of_it is tensor else all_of_it.cpu()


def load_newest_checkpoint(
    run: RunDirectory, *, run_id: str | None = None, at_most: int | None = None
) -> LoadedCheckpoint | None:
    """Read the newest training checkpoint that verifies, of step `at_most` or before; None if the run never saved one.

    A checkpoint that is damaged or of a run with another id is renamed to `step_N.corrupt-n`, never deleted. Raises
    CheckpointError if there are checkpoints, but none is valid.
    """
    checkpoints = [item for item in training_checkpoints(run) if at_most is None or item[0] <= at_most]
    skipped: list[str] = []
    for step, path in checkpoints:
        try:
            loaded = read_checkpoint(path, step, run_id=run_id)
        except DataError as error:
            skipped.append(f"{commits.set_aside(path).name}: {error}")
            continue
        return dataclasses.replace(loaded, skipped=skipped)
    if at_most is not None:
        there = ", ".join(str(step) for step, _ in reversed(training_checkpoints(run))) or "none"
        raise CheckpointError(
            f"no valid training checkpoint up to step {at_most}, the end of the stable part, in {run.states}",
            hint=f"it has those of these steps: {there}; `tttkit train --branch-from RUN@STEP` starts from any of them",
        )
    if checkpoints or (run.states.is_dir() and list(run.states.glob("step_*.corrupt-*"))):
        raise CheckpointError(
            f"no valid training checkpoint in {run.states}: {'; '.join(skipped) or 'all were set aside as corrupt'}",
            hint="restore one from a copy, or start over with another --out",
        )
    return None


def read_checkpoint(path: Path, step: int, *, run_id: str | None = None) -> LoadedCheckpoint:
    """Verify and read one training checkpoint, and change nothing. Raises DataError."""
    num_bytes = verify_checkpoint(path, step, run_id=run_id)
    values, tensors = files.read_json(path / "state.json"), _load(path)
    return LoadedCheckpoint(step=step, path=path, num_bytes=num_bytes, values=values, tensors=tensors, skipped=[])


def restore_checkpoint(loaded: LoadedCheckpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy a training checkpoint into model, optimizer and random generators.

    Raises CheckpointError if it does not fit the model.
    """
    expected = {f"model.{name}": parameter.shape for name, parameter in model.named_parameters()}
    saved = {name: tensor.shape for name, tensor in loaded.tensors.items() if name.startswith("model.")}
    if expected != saved:
        raise CheckpointError(f"the training checkpoint of step {loaded.step} does not have the model's parameters")
    optimizer.state.clear()  # a training checkpoint of step 0 has no moments
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(like(parameter, loaded.tensors[f"model.{name}"]))
            moments = {
                key: loaded.tensors[f"optimizer.{key}.{name}"]
                for key in _MOMENTS
                if f"optimizer.{key}.{name}" in loaded.tensors
            }
            if moments:
                optimizer.state[parameter] = {key: like(parameter, value) for key, value in moments.items()}
    torch.set_rng_state(loaded.tensors["rng.cpu"])
    if "rng.cuda" in loaded.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(loaded.tensors["rng.cuda"])


def verify_checkpoint(path: Path, step: int, *, run_id: str | None = None) -> int:
    """Check the files, step, run and version of a training checkpoint. Returns its size in bytes. Raises DataError."""
    sizes = commits.verify_directory(path)
    values = files.read_json(path / "state.json", max_bytes=64 << 20)
    if not isinstance(values, dict) or values.get("step") != step:
        raise DataError(f"{path / 'state.json'} is not the training checkpoint of step {step}")
    version = values.get("schema_version")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {version}, this tttkit reads up to {SCHEMA_VERSION}")
    if run_id is not None and values.get("run_id", run_id) != run_id:
        raise DataError(f"{path} is a training checkpoint of another run, {values['run_id']}")
    return sum(sizes.values())


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        with files.utf8_name(path / "tensors.safetensors") as name:
            return load_file(name)
    except (SafetensorError, OSError) as error:
        raise DataError(f"cannot read {path / 'tensors.safetensors'}: {error}") from error
