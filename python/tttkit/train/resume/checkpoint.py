"""Training checkpoints: save, verify, load, restore, retain. safetensors and JSON only.

`state/step_N/` holds `tensors.safetensors` (weights, both AdamW moments, random-number states), `state.json`
(everything else) and the manifest that `commits.commit_directory` writes. Under FSDP2 weights and moments are in one
file of shards per rank (`sharded_checkpoint.py`). Both kinds are read by any number of ranks. The data position is the
step itself: the order of windows is a pure function of (seed, step).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from tttkit.distributed.shard_files import read_shards, shapes_in
from tttkit.distributed.sharded import is_sharded, like
from tttkit.errors import CheckpointError, DataError
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits, files
from tttkit.storage.tensor_file import write_tensors

SCHEMA_VERSION = 4
"""Version 4 has shards, version 3 counts tokens; older training checkpoints are still read."""
_VERSION_WITHOUT_SHARDS = 3
NUM_KEPT = 2
_TENSORS = "tensors.safetensors"
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
    unread: dict[str, torch.Size] = dataclasses.field(default_factory=dict)
    """Shapes of the tensors that are left on disk, because every rank reads only its shard of them."""

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of all tensors by name."""
        return {name: tensor.shape for name, tensor in self.tensors.items()} | self.unread


def save_checkpoint(
    run: RunDirectory,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    extra: dict[str, torch.Tensor] | None = None,
    *,
    stable_end: int | None = None,
) -> None:
    """Commit a training checkpoint after update `step`, then drop all but the newest two.

    The newest one up to step `stable_end` is kept too, because a longer run continues from it. `extra` holds the
    recurrent states of rows, besides weights, moments and random-number states. Raises DiskFullError, OSError.
    """
    with commits.commit_directory(run.states / f"step_{step}") as directory:
        write_state(directory, step, tensors_of(model, optimizer) | (extra or {}), values)
    drop_old(run, stable_end)


def write_state(directory: Path, step: int, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
    """Write `tensors` with the random-number states, and state.json. Raises DiskFullError, OSError."""
    tensors = {**tensors, "rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    write_tensors(directory / _TENSORS, tensors)
    files.write_json(directory / "state.json", {"schema_version": _VERSION_WITHOUT_SHARDS, "step": step, **values})


def drop_old(run: RunDirectory, stable_end: int | None) -> None:
    """Remove all training checkpoints but the newest two and the newest up to step `stable_end`. Raises OSError."""
    old = training_checkpoints(run)[NUM_KEPT:]
    newer = [at for at, _ in training_checkpoints(run)[:NUM_KEPT]]
    if stable_end is not None and min(newer, default=0) > stable_end:
        stable = [item for item in old if item[0] <= stable_end]
        old = [item for item in old if item not in stable[:1]]
    for _, path in old:
        commits.remove_directory(path)


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return weights and moments by their names in a training checkpoint; they may be sharded."""
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items() if parameter in optimizer.state else ():
            tensors[f"optimizer.{key}.{name}"] = value
    return tensors


def load_newest_checkpoint(
    run: RunDirectory, *, run_id: str | None = None, at_most: int | None = None, in_shards: bool = False
) -> LoadedCheckpoint | None:
    """Read the newest training checkpoint that verifies, of step `at_most` or before; None if the run never saved one.

    `in_shards` is that of `read_checkpoint`. A checkpoint that is damaged or of a run with another id is renamed to
    `step_N.corrupt-n`, never deleted. Raises CheckpointError if there are checkpoints, but none is valid.
    """
    checkpoints = [item for item in training_checkpoints(run) if at_most is None or item[0] <= at_most]
    skipped: list[str] = []
    for step, path in checkpoints:
        try:
            loaded = read_checkpoint(path, step, run_id=run_id, in_shards=in_shards)
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


def read_checkpoint(
    path: Path, step: int, *, run_id: str | None = None, in_shards: bool = False, is_verified: bool = False
) -> LoadedCheckpoint:
    """Verify and read one training checkpoint, and change nothing.

    With `in_shards`, weights and moments are left to `restore_checkpoint` of a sharded model. `is_verified` says that
    another rank has verified the files. Raises DataError.
    """
    num_bytes = 0 if is_verified else verify_checkpoint(path, step, run_id=run_id)
    values = files.read_json(path / "state.json")
    tensors, unread = _load(path, in_shards=in_shards)
    return LoadedCheckpoint(
        step=step, path=path, num_bytes=num_bytes, values=values, tensors=tensors, skipped=[], unread=unread
    )


def restore_checkpoint(loaded: LoadedCheckpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy a training checkpoint into model, optimizer and random generators.

    Raises CheckpointError if it does not fit the model, DataError if shards cannot be read.
    """
    expected = {f"model.{name}": parameter.shape for name, parameter in model.named_parameters()}
    saved = {name: shape for name, shape in loaded.shapes.items() if name.startswith("model.")}
    if expected != saved:
        raise CheckpointError(f"the training checkpoint of step {loaded.step} does not have the model's parameters")
    optimizer.state.clear()  # a training checkpoint of step 0 has no moments
    shards: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            names = {key: f"optimizer.{key}.{name}" for key in _MOMENTS}
            shards |= {at: parameter.detach() for at in (f"model.{name}",) if at in loaded.unread}
            if f"model.{name}" in loaded.tensors:
                parameter.copy_(like(parameter, loaded.tensors[f"model.{name}"]))
            moments = {key: like(parameter, loaded.tensors[at]) for key, at in names.items() if at in loaded.tensors}
            moments |= {key: torch.empty_like(parameter) for key, at in names.items() if at in loaded.unread}
            shards |= {at: moments[key] for key, at in names.items() if at in loaded.unread}
            if moments:
                optimizer.state[parameter] = moments
    if shards:
        read_shards(loaded.path, shards)
    torch.set_rng_state(loaded.tensors["rng.cpu"])
    if "rng.cuda" in loaded.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(loaded.tensors["rng.cuda"])


def is_in_shards(model: nn.Module) -> bool:
    """Return whether every rank has only a shard of the parameters of a model."""
    return any(is_sharded(parameter) for parameter in model.parameters())


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


def _load(path: Path, *, in_shards: bool) -> tuple[dict[str, torch.Tensor], dict[str, torch.Size]]:
    """Return the tensors of a training checkpoint, and with `in_shards` the shapes of those that are left on disk."""
    has_shards = any(path.glob("shard-*.safetensors"))
    try:
        with files.utf8_name(path / _TENSORS) as name:
            if not in_shards:
                tensors = load_file(name)
            else:
                with safe_open(name, framework="pt") as file:
                    tensors = {key: file.get_tensor(key) for key in file.keys() if not _is_weight(key)}  # noqa: SIM118 - no dictionary
    except (SafetensorError, OSError) as error:
        raise DataError(f"cannot read {path / _TENSORS}: {error}") from error
    if not in_shards and not has_shards:
        return tensors, {}
    unread = {key: shape for key, shape in shapes_in(path).items() if key not in tensors}
    if in_shards:
        return tensors, unread
    whole = {key: torch.empty(shape) for key, shape in unread.items()}
    read_shards(path, whole)
    return tensors | whole, {}


def _is_weight(name: str) -> bool:
    """Return whether a tensor is a weight or a moment, of which a rank needs only its shard."""
    return name.startswith(("model.", "optimizer.exp_avg"))
