"""What a Hugging Face directory says about its model before the model is loaded, and what makes it unusable.

Everything here reads small JSON files and neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, UsageError
from tttkit.storage import files
from tttkit.storage.hub_cache import snapshot_hint

CONFIG_NAME = "config.json"
ADAPTER_NAME = "adapter_config.json"
EXPORT_KEYS = frozenset(
    {"model_type", "architectures", "auto_map", "dtype", "use_cache", "bos_token_id", "pad_token_id", "tttkit_version",
     "transformers_version"}
)  # fmt: skip
"""Keys that `convert --to hf` adds to our config.json, and that the way back leaves out."""
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_NOT_CAUSAL = (
    "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
    "ForMultipleChoice", "ForNextSentencePrediction", "EncoderModel", "ForImageClassification",
)  # fmt: skip
"""Endings of the names of classes that do not predict the next token."""
_POSITION_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length", "seq_length")


def read_config(directory: Path) -> dict[str, Any]:
    """Return config.json. Raises DataError if it is missing, is not an object, or only an adapter is present."""
    if (directory / ADAPTER_NAME).is_file() and not (directory / CONFIG_NAME).is_file():
        adapter = files.read_json(directory / ADAPTER_NAME)
        base = adapter.get("base_model_name_or_path") if isinstance(adapter, dict) else None
        raise DataError(
            f"{directory} holds a PEFT adapter without the model that it changes ({base or 'not named'})",
            hint="merge the adapter into its model (merge_and_unload) and save the result",
        )
    if not (directory / CONFIG_NAME).exists():
        hint = snapshot_hint(directory) or "a model directory holds config.json and model.safetensors"
        raise DataError(f"missing file: {directory / CONFIG_NAME}", hint=hint)
    config = files.read_json(directory / CONFIG_NAME)
    if not isinstance(config, dict):
        raise DataError(f"{directory / CONFIG_NAME} must hold a JSON object, got {type(config).__name__}")
    return config


def check_directory(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse a directory whose model is not a causal language model, or whose weights are incomplete.

    Raises DataError.
    """
    names = config.get("architectures") or []
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else config.get("model_type")
    if config.get("is_encoder_decoder") is True:
        raise DataError(
            f"{directory} holds a sequence-to-sequence model ({name}); only causal language models predict every token "
            "from the tokens before it",
            hint="name a decoder-only model",
        )
    if isinstance(name, str) and name.endswith(_NOT_CAUSAL):
        raise DataError(
            f"{directory} holds {name}, which is not a causal language model", hint="name a decoder-only model"
        )
    _check_weights(directory)


_PARTIAL = (
    "state_size", "mamba", "ssm", "lru_width", "rwkv", "linear_num", "attention_types", "window_size", "block_types",
)  # fmt: skip
"""Parts of the names of settings that only models with windows or recurrent layers have."""


def needs_remote_code(config: Mapping[str, Any]) -> bool:
    """Return whether the directory brings its own code for the model."""
    auto_map = config.get("auto_map")
    return isinstance(auto_map, dict) and "AutoModelForCausalLM" in auto_map


def refuse_remote_code(directory: Path) -> None:
    """Raise UsageError because the model needs Python code of its own directory."""
    raise UsageError(
        f"{directory} brings its own Python code, which is not run without your permission",
        hint="read its .py files, then add --trust-remote-code (in Python: trust_remote_code=True)",
    )


def has_only_pickles(directory: Path) -> bool:
    """Return whether the weights are in PyTorch files only, which are read as plain tensors."""
    names = (_SINGLE[0], _INDEXES[0])
    return not any((directory / name).is_file() for name in names)


def trained_positions(config: Mapping[str, Any]) -> int | None:
    """Return the longest text of training that config.json names, in tokens; None if it names none."""
    for key in _POSITION_KEYS:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    nested = config.get("text_config")
    return trained_positions(nested) if isinstance(nested, dict) else None


def sees_whole_past(config: Mapping[str, Any]) -> bool:
    """Return whether every layer attends to all earlier tokens: attention heads, and no window or recurrent part."""
    nested = config.get("text_config")
    if isinstance(nested, dict):
        return sees_whole_past(nested)
    if not any(config.get(name) for name in ("num_attention_heads", "n_head")):
        return False
    if config.get("layer_types"):
        return all(kind == "full_attention" for kind in config["layer_types"])
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return False
    return not any(part in name for name in config for part in _PARTIAL)


def _check_weights(directory: Path) -> None:
    """Raise DataError if no weights are present, or if a file that an index names is missing."""
    if any((directory / name).is_file() for name in _SINGLE):
        return
    index = next((directory / name for name in _INDEXES if (directory / name).is_file()), None)
    if index is None:
        raise DataError(
            f"{directory} holds no weights: expected {_SINGLE[0]}, {_INDEXES[0]} or {_SINGLE[1]}",
            hint="a Hugging Face directory is what save_pretrained writes",
        )
    table = files.read_json(index)
    shards = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise DataError(f"{index} must hold an object `weight_map` from tensor names to file names")
    for name in sorted(set(shards.values())):
        if not files.is_safe_name(name):
            raise DataError(f"{index} names a file outside its directory: {name!r}")
        if not (directory / name).is_file():
            raise DataError(
                f"{directory} lacks {name}, which {index.name} names", hint="copy or download the missing file"
            )
