"""A request to evaluate one model directory: find and check the model, its data, its window and the protocol."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.config.run import EvaluationConfig, build_config
from tttkit.data import load_manifest, open_split
from tttkit.data.manifest import Manifest
from tttkit.data.split import Split
from tttkit.device import prepare_cpu
from tttkit.errors import DataError, NumericalError, UsageError
from tttkit.evaluate.blocks import evaluation_key
from tttkit.models import LanguageModel, load_model, read_model_config
from tttkit.models.storage import weights_sha256
from tttkit.results.summary import SUMMARY_NAME
from tttkit.run.directory import RunDirectory

SCHEMA = 3
"""Increase it when equal weights, data and protocol would give different files."""
_USUAL_WINDOW = 64
_USUAL_MULTIPLE = 20
_USUAL_CHUNK = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A model to evaluate, and how. None means the default: the whole split, the training window W, 20 x W."""

    path: Path
    """The model directory, or a checkpoint_NNN that kept its weights."""
    data: Path | None = None
    """DATA directory; None for the data of the run that owns the model."""
    split: str = "validation"
    num_sequences: int | None = None
    max_length: int | None = None
    window: int | None = None
    sw_mode: str = "exact"
    device: str | None = None
    protocol: EvaluationConfig | None = None
    """Replaces `num_sequences`, `max_length` and `sw_mode`."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Additional keys of summary.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationJob:
    """A request with everything that it names, read and checked."""

    model: LanguageModel
    split: Split
    protocol: EvaluationConfig
    window: int
    key: str
    """Equal keys give equal results."""
    facts: Mapping[str, Any]
    """Keys of summary.json that say what was evaluated."""


def prepare(request: EvaluationRequest) -> EvaluationJob:
    """Read what a request names. Raises UsageError, DataError, NumericalError."""
    path = find_model_directory(request.path)
    config = read_model_config(path)
    data = request.data or _data_of_run(path)
    _check_tokenizer(path, config, load_manifest(data))
    split = open_split(data, request.split)
    window = request.window or _trained_window(path, config)
    protocol = request.protocol or _protocol(request, window, split.num_tokens)
    prepare_cpu()
    model = load_model(path)
    _check_finite(model, path)
    weights = weights_sha256(model)
    key = evaluation_key(
        schema=SCHEMA, weights=weights, data=split.fingerprint, split=request.split, window=window,
        protocol=dataclasses.asdict(protocol),
    )  # fmt: skip
    facts = {
        "model": model.config.name, "path": str(request.path), "split": request.split,
        "data_fingerprint": split.fingerprint, "weights_sha256": weights, "evaluation_key": key, **request.facts,
    }  # fmt: skip
    return EvaluationJob(model=model, split=split, protocol=protocol, window=window, key=key, facts=facts)


def _protocol(request: EvaluationRequest, window: int, num_tokens: int) -> EvaluationConfig:
    """Return the full protocol, the whole split and 20 x W, unless the request says otherwise."""
    max_length = request.max_length or _USUAL_MULTIPLE * window
    size = min(_USUAL_CHUNK, window)
    values = {
        "max_length": max_length,
        "num_sequences": request.num_sequences or max(1, num_tokens // (max_length + 1)),
        "sw_mode": request.sw_mode,
        "chunk_size": size,
        # With this stride a chunk ends at every multiple of the window.
        "chunk_stride": math.gcd(size, window),
    }
    sections = {"model": {"mini_batch_size": 1}, "train": {"window": window}, "evaluation": values}
    return build_config(sections).evaluation


def find_model_directory(path: Path) -> Path:
    """Return `path`, or the `model` folder of a checkpoint_NNN that kept its weights. Raises UsageError."""
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise UsageError(
            f"expected a model directory, but {path} {problem}",
            hint="a model directory holds config.json and model.safetensors",
        )
    if (path / "metadata.json").exists():
        raise UsageError(f"{path} is a run, not a model", hint=f"evaluate {path / 'best_model'}")
    if (path / SUMMARY_NAME).exists() and not (path / "config.json").exists():
        if not (path / "model").is_dir():
            raise UsageError(
                f"{path} holds results but no weights",
                hint="train with --keep-weights, or evaluate best_model or final_model",
            )
        return path / "model"
    return path


def _data_of_run(path: Path) -> Path:
    """Return the DATA directory of the run that owns a model directory. Raises UsageError if no run owns it."""
    for parent in list(path.absolute().parents)[:3]:
        run = RunDirectory(parent)
        if run.metadata.exists():
            recorded = run.read_metadata().get("data", {}).get("path")
            if recorded:
                return Path(recorded)
    raise UsageError(f"{path} belongs to no run, so its data is unknown", hint="name the data: --data DATA")


def _trained_window(path: Path, config: dict[str, Any]) -> int:
    """Return the window in config.json; 64 for a model that was not trained by tttkit."""
    window = config.get("window", _USUAL_WINDOW)
    if not isinstance(window, int) or window < 1:
        raise DataError(f"{path / 'config.json'}: window must be a whole number of at least 1, got {window!r}")
    return window


def _check_tokenizer(path: Path, config: dict[str, Any], manifest: Manifest) -> None:
    expected = config.get("tokenizer_sha256")
    if expected is not None and expected != manifest.tokenizer_sha256:
        raise DataError(
            f"{path} was trained with tokenizer {str(expected)[:12]}, but the data were prepared with "
            f"{manifest.tokenizer_sha256[:12]}",
            hint=f"prepare the data with --tokenizer {path / 'tokenizer.json'}",
        )


def _check_finite(model: LanguageModel, path: Path) -> None:
    spoiled = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if spoiled:
        raise NumericalError(
            f"weights in {path} are not finite: {spoiled[0]}{f' and {len(spoiled) - 1} more' * (len(spoiled) > 1)}",
            hint="the training run that wrote them diverged",
        )
