"""Resumable training state: save, verify, find, retain. safetensors and JSON only.

`state/step_N/` holds `tensors.safetensors` (weights, both AdamW moments, random state), `state.json` (everything else)
and the manifest that `files.commit_directory` writes. The data position is the step itself: the order of windows is a
pure function of (seed, step).
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tttkit import files
from tttkit.errors import CheckpointError, DataError, DiskFullError
from tttkit.rundir import RunDirectory

STATE_SCHEMA_VERSION = 1
NUM_KEPT = 2
_STATE_NAME = re.compile(r"^step_(\d+)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedState:
    """A verified state and what had to be passed over to find it."""

    step: int
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
    with files.commit_directory(run.states / f"step_{step}") as directory:
        write_tensors(directory / "tensors.safetensors", tensors)
        files.write_json(directory / "state.json", {"schema_version": STATE_SCHEMA_VERSION, "step": step, **values})
    for _, path in _states(run)[NUM_KEPT:]:
        files.remove_directory(path)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a safetensors file. Raises DiskFullError: safetensors gives its full-disk error no errno."""
    try:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        if "space" in str(error).lower() or "os error 28" in str(error) or "os error 27" in str(error):
            raise DiskFullError(f"disk full while writing {path}") from error
        raise OSError(f"cannot write {path}: {error}") from error


def load_newest_state(run: RunDirectory) -> LoadedState | None:
    """The newest state that verifies, or None when the run never saved one.

    A damaged state is renamed to `step_N.corrupt-n`, never deleted. Raises CheckpointError when none is valid.
    """
    found = _states(run)
    skipped: list[str] = []
    for step, path in found:
        try:
            values, tensors = _read_state(path, step)
        except DataError as error:
            skipped.append(f"{_set_aside(path).name}: {error}")
            continue
        return LoadedState(step=step, values=values, tensors=tensors, skipped=skipped)
    if found or _set_aside_states(run):
        raise CheckpointError(
            f"no valid training state in {run.states}: {'; '.join(skipped) or 'all were set aside as corrupt'}",
            hint="restore one from a copy, or start anew with another --out",
        )
    return None


def restore(state: LoadedState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a loaded state into model, optimizer and random generators. Raises CheckpointError when it does not fit."""
    expected = {f"model.{name}" for name, _ in model.named_parameters()}
    found = {name for name in state.tensors if name.startswith("model.")}
    if expected != found:
        raise CheckpointError(f"the state of step {state.step} has other parameters than the model")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state.tensors[f"model.{name}"])
            moments = {
                key: state.tensors[f"optimizer.{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{key}.{name}" in state.tensors
            }
            if moments:
                optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    torch.set_rng_state(state.tensors["rng.cpu"])
    if "rng.cuda" in state.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.tensors["rng.cuda"])


def _read_state(path: Path, step: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    files.verify_directory(path)
    values = files.read_json(path / "state.json", max_bytes=64 << 20)
    if not isinstance(values, dict) or values.get("step") != step:
        raise DataError(f"{path / 'state.json'} is not the state of step {step}")
    if values.get("schema_version") != STATE_SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {values.get('schema_version')}, expected {STATE_SCHEMA_VERSION}")
    try:
        return values, load_file(path / "tensors.safetensors")
    except (SafetensorError, OSError) as error:
        raise DataError(f"cannot read {path / 'tensors.safetensors'}: {error}") from error


def _states(run: RunDirectory) -> list[tuple[int, Path]]:
    """Committed states, newest first."""
    if not run.states.is_dir():
        return []
    matches = ((_STATE_NAME.match(entry.name), entry) for entry in run.states.iterdir())
    return sorted(((int(match[1]), entry) for match, entry in matches if match), reverse=True)


def _set_aside_states(run: RunDirectory) -> list[Path]:
    return list(run.states.glob("step_*.corrupt-*")) if run.states.is_dir() else []


def _set_aside(path: Path) -> Path:
    index = 0
    while (target := path.with_name(f"{path.name}.corrupt-{index}")).exists():
        index += 1
    return path.rename(target)
