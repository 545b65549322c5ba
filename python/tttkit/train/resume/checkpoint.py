"""Resumable training state: save, verify, find, retain. safetensors and JSON only.

`state/step_N/` holds `tensors.safetensors` (weights, both AdamW moments, random state), `state.json` (everything else)
and the manifest that `commits.commit_directory` writes. The data position is the step itself: the order of windows is a
pure function of (seed, step).
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from tttkit.errors import CheckpointError, DataError
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits, files
from tttkit.storage.tensor_file import write_tensors

STATE_SCHEMA_VERSION = 1
NUM_KEPT = 2
_STATE_NAME = re.compile(r"^step_(\d+)$")
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedState:
    """A verified state and what had to be passed over to find it."""

    step: int
    path: Path
    num_bytes: int
    values: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    skipped: list[str]


def save_state(
    run: RunDirectory,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    extra: dict[str, torch.Tensor] | None = None,
) -> None:
    """Commit the state after update `step`, then drop all but the newest two. Raises DiskFullError, OSError.

    `extra` are tensors beside weights, moments and random state: those of the lanes.
    """
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items() if parameter in optimizer.state else ():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors |= extra or {}
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    with commits.commit_directory(run.states / f"step_{step}") as directory:
        write_tensors(directory / "tensors.safetensors", tensors)
        files.write_json(directory / "state.json", {"schema_version": STATE_SCHEMA_VERSION, "step": step, **values})
    for _, path in states(run)[NUM_KEPT:]:
        commits.remove_directory(path)


def load_newest_state(run: RunDirectory, *, run_id: str | None = None) -> LoadedState | None:
    """The newest state that verifies, or None when the run never saved one.

    A damaged state, or one of a run with another id, is renamed to `step_N.corrupt-n`, never deleted. Raises
    CheckpointError when none is valid.
    """
    found = states(run)
    skipped: list[str] = []
    for step, path in found:
        try:
            num_bytes = verify_state(path, step, run_id=run_id)
            values, tensors = files.read_json(path / "state.json"), _load(path)
        except DataError as error:
            skipped.append(f"{commits.set_aside(path).name}: {error}")
            continue
        return LoadedState(step=step, path=path, num_bytes=num_bytes, values=values, tensors=tensors, skipped=skipped)
    if found or (run.states.is_dir() and list(run.states.glob("step_*.corrupt-*"))):
        raise CheckpointError(
            f"no valid training state in {run.states}: {'; '.join(skipped) or 'all were set aside as corrupt'}",
            hint="restore one from a copy, or start anew with another --out",
        )
    return None


def restore(state: LoadedState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a loaded state into model, optimizer and random generators. Raises CheckpointError when it does not fit."""
    expected = {f"model.{name}": parameter.shape for name, parameter in model.named_parameters()}
    found = {name: tensor.shape for name, tensor in state.tensors.items() if name.startswith("model.")}
    if expected != found:
        raise CheckpointError(f"the state of step {state.step} has other parameters than the model")
    optimizer.state.clear()  # a state of step 0 has no moments
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state.tensors[f"model.{name}"])
            moments = {
                key: state.tensors[f"optimizer.{key}.{name}"]
                for key in _MOMENTS
                if f"optimizer.{key}.{name}" in state.tensors
            }
            if moments:
                optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    torch.set_rng_state(state.tensors["rng.cpu"])
    if "rng.cuda" in state.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.tensors["rng.cuda"])


def verify_state(path: Path, step: int, *, run_id: str | None = None) -> int:
    """Check a state's files, step, run and version; returns its bytes. Raises DataError."""
    sizes = commits.verify_directory(path)
    values = files.read_json(path / "state.json", max_bytes=64 << 20)
    if not isinstance(values, dict) or values.get("step") != step:
        raise DataError(f"{path / 'state.json'} is not the state of step {step}")
    if values.get("schema_version") != STATE_SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {values.get('schema_version')}, expected {STATE_SCHEMA_VERSION}")
    if run_id is not None and values.get("run_id", run_id) != run_id:
        raise DataError(f"{path} is a state of another run, {values['run_id']}")
    return sum(sizes.values())


def states(run: RunDirectory) -> list[tuple[int, Path]]:
    """Committed states, newest first."""
    if not run.states.is_dir():
        return []
    matches = ((_STATE_NAME.match(entry.name), entry) for entry in run.states.iterdir())
    return sorted(((int(match[1]), entry) for match, entry in matches if match), reverse=True)


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path / "tensors.safetensors")
    except (SafetensorError, OSError) as error:
        raise DataError(f"cannot read {path / 'tensors.safetensors'}: {error}") from error
