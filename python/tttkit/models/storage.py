"""Model directories: `config.json` + `model.safetensors` under the official names. Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tttkit.config.model import ModelConfig
from tttkit.errors import DataError, NumericalError
from tttkit.models.official import from_official, to_official
from tttkit.storage import commits, files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from tttkit.models.language_model import LanguageModel

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"


def save_model(model: LanguageModel, directory: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write `config.json` (the model's fields, then the keys of `metadata`) and `model.safetensors` into a directory.

    The directory is created if it does not exist. Each file is replaced atomically; to replace both at once, save into
    a directory that `commits.commit_directory` commits.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(to_official(model), directory / WEIGHTS_NAME)
    files.write_json(directory / CONFIG_NAME, {**model.config.to_dict(), **(metadata or {})})


def load_model(directory: str | Path) -> LanguageModel:
    """Read a model directory, ours or in the official format (safetensors, in one file or sharded with an index).

    The model is on the CPU, in float32. Raises DataError naming the file that is missing, corrupt, does not fit, or
    differs from the MANIFEST.json beside it.
    """
    directory = Path(directory)
    raw = read_model_config(directory)
    single, index = directory / WEIGHTS_NAME, directory / INDEX_NAME
    commits.verify_file(single)
    sharded = index.exists() and not single.exists()
    return build_from(raw, read_sharded(index, read_safetensors) if sharded else read_safetensors(single), directory)


def build_from(raw: Mapping[str, Any], tensors: Mapping[str, Tensor], directory: Path) -> LanguageModel:
    """Build the model of a config.json and its weights, both read from `directory`. Raises DataError."""
    config = _model_config(dict(raw), directory)
    try:
        return from_official(config, tensors)
    except (ValueError, TypeError) as error:
        raise DataError(f"weights in {directory} do not fit its {CONFIG_NAME}: {error}") from error


def save_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Replace `path` by a safetensors file, atomically. Raises DiskFullError."""
    files.write_bytes(path, save(dict(tensors), metadata={"format": "pt"}))


def read_model_config(directory: str | Path) -> dict[str, Any]:
    """Read the `config.json` of a model directory with all its keys, ours and others. Raises DataError."""
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"no such model directory: {directory}", hint=f"it holds {CONFIG_NAME} and {WEIGHTS_NAME}")
    config = files.read_json(directory / CONFIG_NAME)
    if not isinstance(config, dict):
        raise DataError(f"{directory / CONFIG_NAME} must hold a JSON object, got {type(config).__name__}")
    return config


def _model_config(raw: dict[str, Any], directory: Path) -> ModelConfig:
    try:
        return ModelConfig.from_official(raw)
    except ValueError as error:
        message = str(error)
        if isinstance(error, ValidationError):
            detail = error.errors()[0]
            key = ".".join(str(part) for part in detail["loc"])
            message = f"{key}: {detail['msg']}" if key else detail["msg"]
        raise DataError(f"{directory / CONFIG_NAME} does not describe a model: {message}") from error


def read_sharded(index: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names; `read` reads one file. Raises DataError."""
    table = files.read_json(index)
    shards = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise DataError(f"{index} must hold an object `weight_map` from tensor names to file names")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(shards.values())):
        if not files.is_safe_name(name):
            raise DataError(f"{index} names a file outside its directory: {name!r}")
        tensors.update(read(index.parent / name))
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file. Raises DataError."""
    # opening a pipe would block
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a regular file")
    try:
        with files.utf8_name(path) as name, safe_open(name, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise DataError(
            f"missing file: {path}", hint="weights must be safetensors; `tttkit convert` reads others"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise DataError(f"{path} is not a valid safetensors file: {error}") from error


def check_finite(model: nn.Module, directory: Path) -> None:
    """Refuse weights that are NaN or infinite. Raises NumericalError."""
    spoiled = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if spoiled:
        more = f" and {len(spoiled) - 1} more" if len(spoiled) > 1 else ""
        raise NumericalError(
            f"weights in {directory} are not finite: {spoiled[0]}{more}",
            hint="the training run that wrote them diverged",
        )
