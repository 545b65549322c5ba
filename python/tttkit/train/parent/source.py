"""The weights that a warm start begins from: those of a model directory, of a run, or of a training checkpoint."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch

from tttkit.config.model import ModelConfig
from tttkit.config.run import build_config
from tttkit.errors import DataError, NumericalError
from tttkit.models import load_model
from tttkit.models.digest import tensors_sha256
from tttkit.models.load import find_model, is_ours
from tttkit.models.storage import read_model_config
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.storage import commits, files
from tttkit.train.resume.checkpoint import LoadedCheckpoint, read_checkpoint

_AT_STEP = re.compile(r"^(?P<run>.+)@(?P<step>\d+)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Weights on the CPU in float32, and what is known about them."""

    path: Path
    tensors: dict[str, torch.Tensor]
    """Every parameter by its official name."""
    model: ModelConfig
    step: int | None
    past_tokens: int | None
    """Training tokens that the weights have seen; None if they do not say."""
    tokenizer: Path | None
    """Model directory with the tokenizer; None if there is none."""

    @property
    def weights_sha256(self) -> str:
        """The digest of the weights, as `tttkit.models.digest.weights_sha256` computes it of a model."""
        return tensors_sha256(self.tensors.items())


def read_source(name: str) -> Source:
    """Read the weights that `name` names.

    It is a model directory of ours or in the official format, `hf:NAME`, a training checkpoint (`RUN@STEP` or its
    directory), or a run, whose newest training checkpoint counts. Raises DataError, NumericalError.
    """
    source = _find(name)
    spoiled = [key for key, tensor in source.tensors.items() if not bool(tensor.isfinite().all())]
    if spoiled:
        raise NumericalError(
            f"weights in {source.path} are not finite: {spoiled[0]}",
            hint="the training run that wrote them diverged",
        )
    return source


def split_step(name: str) -> tuple[Path, int] | None:
    """Return run and step of `RUN@STEP`; None if `name` has no step or is the path of something that exists."""
    match = None if Path(name).exists() else _AT_STEP.match(name)
    return (Path(match["run"]), int(match["step"])) if match else None


def checkpoint_at(run: RunDirectory, step: int) -> LoadedCheckpoint:
    """Read the training checkpoint of `step`, and change nothing. Raises DataError that lists the steps there are."""
    if not run.path.is_dir():
        raise DataError(f"no such run directory: {run.path}", hint="name it as RUN@STEP")
    steps = dict(training_checkpoints(run))
    if step not in steps:
        there = ", ".join(map(str, sorted(steps))) or "none"
        raise DataError(f"{run.path} has no training checkpoint of step {step}", hint=f"it has these steps: {there}")
    return read_checkpoint(steps[step], step)


def _find(name: str) -> Source:
    at = split_step(name)
    if at is not None:
        run = RunDirectory(at[0])
        return source_of_checkpoint(run, checkpoint_at(run, at[1]))
    path = find_model(name)
    if (path / "state.json").is_file():
        run = RunDirectory(path.absolute().parent.parent)
        step = files.read_json(path / "state.json").get("step")
        return source_of_checkpoint(run, read_checkpoint(path, step))
    run = RunDirectory(path)
    if run.metadata.is_file():
        saved = training_checkpoints(run)
        if saved:
            return source_of_checkpoint(run, checkpoint_at(run, saved[0][0]))
        path = run.final_model if run.final_model.is_dir() else run.best_model
        if not path.is_dir():
            raise DataError(f"{run.path} holds no weights yet: it has neither a training checkpoint nor a model")
    return _of_model(path)


def _of_model(path: Path) -> Source:
    raw = read_model_config(path)
    if not is_ours(raw):
        raise DataError(
            f"{path} holds a model of type {raw.get('model_type')!r}, but training starts from models of tttkit or in "
            f"the official TTT format"
        )
    if (path / commits.MANIFEST_NAME).is_file():
        commits.verify_directory(path)
    model = load_model(path)
    seen, before = raw.get("tokens_seen"), raw.get("past_tokens", 0)
    known = isinstance(seen, int) and isinstance(before, int)
    return Source(
        path=path,
        tensors={name: parameter.detach() for name, parameter in model.named_parameters()},
        model=model.config,
        step=raw["step"] if isinstance(raw.get("step"), int) else None,
        past_tokens=seen + before if known else None,
        tokenizer=path,
    )


def source_of_checkpoint(run: RunDirectory, loaded: LoadedCheckpoint) -> Source:
    """Return the weights of a training checkpoint of `run`. Raises DataError."""
    metadata = run.read_metadata()
    return Source(
        path=loaded.path,
        tensors={
            name.removeprefix("model."): tensor for name, tensor in loaded.tensors.items() if name.startswith("model.")
        },
        model=build_config(metadata["config"]).model,
        step=loaded.step,
        past_tokens=total_tokens(loaded, metadata),
        tokenizer=next((path for path in (run.best_model, run.final_model) if path.is_dir()), None),
    )


def total_tokens(loaded: LoadedCheckpoint, metadata: dict[str, Any]) -> int | None:
    """Return the tokens of a training checkpoint, with those of the past of its run; None if they are not known."""
    before = (metadata.get("parent") or {}).get("past_tokens", 0)
    seen = loaded.values["progress"].get("tokens_seen")
    return None if seen is None or before is None else seen + before
