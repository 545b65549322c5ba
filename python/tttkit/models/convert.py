"""Convert between our model directories and official ones: the weight names are the same, but the config differs.

This is the only module that reads pickled weights (`.pt`, `.bin`), and it reads them as plain tensors only.
"""

from __future__ import annotations

import dataclasses
import pickle  # noqa: TID251 - only for its error class
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tttkit.config.model import ModelConfig
from tttkit.errors import DataError, UsageError
from tttkit.models.hugging_face.directory import EXPORT_KEYS
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
    from collections.abc import Mapping

    from tttkit.models.language_model import LanguageModel

Format = Literal["tttkit", "official", "hf"]
PICKLED_NAME = "pytorch_model.bin"
_PICKLED = (".pt", ".pth", ".bin")
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_EMBEDDING, _HEAD, _ROTARY_TABLE = "embed_tokens.weight", "lm_head.weight", "rotary_emb.inv_freq"
_OFFICIAL_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "mini_batch_size",
    "ttt_layer_type", "ttt_base_lr", "rope_theta", "rms_norm_eps", "use_gate", "share_qk", "pre_conv", "conv_kernel",
    "tie_word_embeddings", "initializer_range",
)  # fmt: skip
_NESTED = ("state_dict", "model_state_dict", "model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion; `target` is the format written."""

    model: LanguageModel
    target: Format
    out: Path


def convert_model(source: str | Path, out: str | Path, target: Format | None = None) -> Conversion:
    """Write the model of `source` into the new directory `out`; float32 weights keep every bit.

    `source` is a model directory, ours or official, or a weights file (safetensors, or a pickle of plain tensors) next
    to a `config.json`. `target` None means the format that `source` does not have. Raises UsageError if `out` exists or
    the official code has no such model, DataError for files that are missing, damaged or do not fit.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise UsageError(f"{out} already exists", hint="choose a directory that does not exist yet")
    directory = source if source.is_dir() else source.parent
    model, others = read_source(source)
    if target is None:
        target = "official" if _is_plainly_ours(directory) else "tttkit"
    obstacle = official_obstacle(model.config)
    if target == "official" and obstacle is not None:
        raise UsageError(obstacle, hint="--to tttkit")
    out.parent.mkdir(parents=True, exist_ok=True)
    with commits.commit_directory(out) as temporary:
        if target == "official":
            files.write_json(temporary / CONFIG_NAME, {**official_config(model.config), **others})
            save_weights(to_official(model), temporary / WEIGHTS_NAME)
        else:
            save_model(model, temporary, metadata=others)
        if (directory / "tokenizer.json").is_file():
            files.write_bytes(temporary / "tokenizer.json", (directory / "tokenizer.json").read_bytes())
    return Conversion(model=model, target=target, out=out)


def read_source(source: Path) -> tuple[LanguageModel, dict[str, Any]]:
    """Read a model directory or a weights file: return the model, and what config.json holds beside its fields.

    Raises DataError for files that are missing, damaged or do not fit.
    """
    directory = source if source.is_dir() else source.parent
    raw = read_model_config(directory)
    model = build_from(raw, unwrapped(read_foreign_weights(source)), directory)
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    if raw.get("model_type") == "tttkit":
        known |= EXPORT_KEYS
    return model, {key: value for key, value in raw.items() if key not in known}


def _is_plainly_ours(directory: Path) -> bool:
    """Return whether a directory is in our own format, neither official nor exported for transformers."""
    raw = read_model_config(directory)
    return "architecture" in raw and "model_type" not in raw


def official_config(config: ModelConfig) -> dict[str, Any]:
    """Return the keys of an official config.json."""
    fields = {name: getattr(config, name) for name in _OFFICIAL_FIELDS}
    return {"model_type": "ttt", "architectures": ["TTTForCausalLM"], "hidden_act": "silu", **fields}


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under official names, without what wrappers of training put around the names.

    `torch.compile`, data parallelism and modules that contain the model add parts such as `_orig_mod.`, `module.` or
    `model.`, and a saved inner model lacks `model.`. Tables of rotary embeddings are left out: they follow from the
    config. Raises DataError if two tensors get the same name.
    """
    names = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in tensors}
    embedding = next((name for name in names.values() if name.endswith(_EMBEDDING)), None)
    # the official names begin with `model.`, except for the head
    before = "model." if embedding is None else embedding.removesuffix(_EMBEDDING)
    renamed: dict[str, Tensor] = {}
    for given, name in names.items():
        official = f"model.{name.removeprefix(before)}" if name.startswith(before) else name
        if name.endswith(_HEAD):
            official = _HEAD
        if official in renamed:
            raise DataError(f"two tensors are {official} without the prefixes of wrappers; one is {given}")
        if not official.endswith(_ROTARY_TABLE):
            renamed[official] = tensors[given]
    return renamed


def read_foreign_weights(source: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file or a model directory: its safetensors, or else a pickle of tensors."""
    if source.is_file():
        return _read_file(source)
    if (source / WEIGHTS_NAME).exists():
        return read_safetensors(source / WEIGHTS_NAME)
    if (source / INDEX_NAME).exists():
        return read_sharded(source / INDEX_NAME, read_safetensors)
    if (source / f"{PICKLED_NAME}.index.json").exists():
        return read_sharded(source / f"{PICKLED_NAME}.index.json", read_pickled)
    pickles = [file for file in sorted(source.iterdir()) if file.suffix in _PICKLED]
    if len(pickles) == 1:
        return read_pickled(pickles[0])
    if pickles:
        names = ", ".join(file.name for file in pickles)
        raise DataError(f"{source} holds several weights files: {names}", hint="name the weights file itself")
    raise DataError(f"{source} must hold {WEIGHTS_NAME} or {PICKLED_NAME}")


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a PyTorch file that holds nothing else.

    Raises DataError for any other content: code in the file is refused and never runs.
    """
    try:
        # the only place that opens a pickle: `weights_only` admits tensors and plain containers, no code
        values = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except FileNotFoundError as error:
        raise DataError(f"missing file: {path}") from error
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower():
            raise DataError(
                f"{path} holds more than tensors, and reading it would run its code: refused",
                hint="save its state_dict() as safetensors on a machine where you trust it",
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
    raise UsageError(f"{path} is not a weights file", hint=f"known: .safetensors, {', '.join(_PICKLED)}")


def official_obstacle(config: ModelConfig) -> str | None:
    """Return why the official code cannot run this model, in one line; None if it can."""
    if config.architecture != "ttt":
        return f"the official code has no `{config.name}` model"
    if config.parallel_window:
        return "the official code has no window beside its memory, but this model does"
    if config.decays or config.inner_decay != "none":
        return "the official code does not decay its state, but this model does"
    for name in ("inner_momentum", "inner_rescale", "inner_lr_decay"):
        if getattr(config, name):
            return f"the official code has no {name}, but this model does"
    return None
