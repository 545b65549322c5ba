"""Between model directories of ours and of the official code. Weights have the same names; the config differs.

Weights that come as a pickle (`.pt`, `.bin`) are read here and nowhere else, and only as plain tensors.
"""

from __future__ import annotations

import dataclasses
import pickle  # noqa: TID251 - for the class of its error only
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tttkit.config.model import ModelConfig
from tttkit.errors import DataError, UsageError
from tttkit.models.official import to_official
from tttkit.models.storage import (
    CONFIG_NAME,
    INDEX_NAME,
    WEIGHTS_NAME,
    build_from,
    read_model_config,
    read_safetensors,
    read_sharded,
    save_model,
    save_weights,
)
from tttkit.storage import commits, files

if TYPE_CHECKING:
    from tttkit.models.language_model import LanguageModel

Format = Literal["tttkit", "official"]
PICKLED_NAME = "pytorch_model.bin"
_PICKLED = (".pt", ".pth", ".bin")
_OURS_ONLY = ("architecture", "sliding_window", "state_decay", "learn_state_decay", "decay_window")
_NESTED = ("state_dict", "model_state_dict", "model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was converted: `target` is the format written."""

    model: LanguageModel
    target: Format
    out: Path


def convert_model(source: str | Path, out: str | Path, target: Format | None = None) -> Conversion:
    """Write the model of `source` into the new directory `out`, float32 weights kept bit for bit.

    `source` is a model directory, ours or official, or a weights file (safetensors, or a pickle of plain tensors) with
    a `config.json` beside it. `target` None means the format that `source` does not have. Raises UsageError where `out`
    exists or the official code has no such model, DataError for files that are missing, damaged or do not fit.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise UsageError(f"{out} already exists", hint="choose a directory that is not there yet")
    directory = source if source.is_dir() else source.parent
    raw = read_model_config(directory)
    if target is None:
        target = "official" if "architecture" in raw else "tttkit"
    model = build_from(raw, read_foreign_weights(source), directory)
    if target == "official":
        _check_official(model.config)
    out.parent.mkdir(parents=True, exist_ok=True)
    with commits.commit_directory(out) as temporary:
        known = {field.name for field in dataclasses.fields(ModelConfig)}
        others = {key: value for key, value in raw.items() if key not in known}
        if target == "official":
            files.write_json(temporary / CONFIG_NAME, {**official_config(model.config), **others})
            save_weights(to_official(model), temporary / WEIGHTS_NAME)
        else:
            save_model(model, temporary, metadata=others)
        if (directory / "tokenizer.json").is_file():
            files.write_bytes(temporary / "tokenizer.json", (directory / "tokenizer.json").read_bytes())
    return Conversion(model=model, target=target, out=out)


def official_config(config: ModelConfig) -> dict[str, Any]:
    """The keys of an official config.json."""
    fields = {key: value for key, value in config.to_dict().items() if key not in _OURS_ONLY}
    return {"model_type": "ttt", "architectures": ["TTTForCausalLM"], "hidden_act": "silu", **fields}


def read_foreign_weights(source: Path) -> dict[str, Tensor]:
    """Tensors of a weights file or of a model directory: safetensors where there are any, else a pickle of tensors."""
    if source.is_file():
        return _read_file(source)
    if (source / WEIGHTS_NAME).exists():
        return read_safetensors(source / WEIGHTS_NAME)
    if (source / INDEX_NAME).exists():
        return read_sharded(source / INDEX_NAME, read_safetensors)
    if (source / f"{PICKLED_NAME}.index.json").exists():
        return read_sharded(source / f"{PICKLED_NAME}.index.json", read_pickled)
    found = [file for file in sorted(source.iterdir()) if file.suffix in _PICKLED]
    if len(found) == 1:
        return read_pickled(found[0])
    what = f"one of {', '.join(file.name for file in found)}" if found else f"{WEIGHTS_NAME} or {PICKLED_NAME}"
    raise DataError(f"{source} must hold {what}", hint="name the weights file itself" if found else None)


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Tensors of a PyTorch file that holds nothing else. Raises DataError: code in the file is refused, never run."""
    try:
        # the one place where a pickle is opened: `weights_only` admits tensors and plain containers, no code
        values = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except FileNotFoundError as error:
        raise DataError(f"missing file: {path}") from error
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower():
            raise DataError(
                f"{path} holds more than tensors, and reading it would run its code: refused",
                hint="save its state_dict() as safetensors where you trust it",
            ) from error
        raise DataError(f"{path} is not a PyTorch weights file: {type(error).__name__}") from error
    for name in _NESTED:
        if isinstance(values, dict) and isinstance(values.get(name), dict):
            values = values[name]
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise DataError(f"{path} must hold a state_dict, names to tensors, got {type(values).__name__}")
    return {str(name): value for name, value in values.items()}


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in _PICKLED:
        return read_pickled(path)
    raise UsageError(f"{path} is no weights file", hint=f"known: .safetensors, {', '.join(_PICKLED)}")


def _check_official(config: ModelConfig) -> None:
    if config.architecture != "ttt":
        raise UsageError(f"the official code has no `{config.name}` model", hint="--to tttkit")
    if config.decays:
        raise UsageError("the official code does not decay its state, this model does", hint="--to tttkit")
