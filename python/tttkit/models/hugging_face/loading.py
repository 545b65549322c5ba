"""Load a Hugging Face directory: what cannot be used is refused in one line (docs/any-model.md)."""

from __future__ import annotations

import pickle  # noqa: TID251 - only for its error class
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from tttkit.errors import DataError, TttkitError, UsageError
from tttkit.models.digest import weights_sha256
from tttkit.models.hugging_face.checks import find_traits
from tttkit.models.hugging_face.directory import (
    check_directory,
    has_only_pickles,
    needs_remote_code,
    refuse_remote_code,
    trained_positions,
)
from tttkit.models.hugging_face.model import HuggingFaceModel, force_one_kernel
from tttkit.models.hugging_face.package import import_transformers, one_line, quiet, register_more_families
from tttkit.models.hugging_face.tokens import read_bos, read_end_ids
from tttkit.models.storage import check_finite


def load_hugging_face(
    directory: Path, config: Mapping[str, Any], *, dtype: torch.dtype | None, trust_remote_code: bool
) -> HuggingFaceModel:
    """Load a causal language model; `config` is its config.json, and `dtype` None keeps the type of the weights.

    The model is on the CPU, in evaluation mode, and checked (`checks.py`). Raises UsageError if a package or a
    permission is missing, DataError for a directory that is not a complete causal language model, NumericalError for
    weights that are not finite.
    """
    check_directory(directory, config)
    transformers = import_transformers()
    with quiet():
        known = _is_known(transformers, str(config.get("model_type")))
        if not known and not needs_remote_code(config):
            raise DataError(
                f"{directory} holds a {config.get('model_type')} model, which transformers {transformers.__version__} "
                "does not know",
                hint="install a newer transformers, or flash-linear-attention for its families",
            )
        if not known and not trust_remote_code:
            refuse_remote_code(directory)
        # code of the directory runs only where transformers has none of its own
        trust = trust_remote_code and not known
        with _in_one_line(directory):
            module = _load(transformers, directory, dtype, trust=trust)
        module.eval()
        force_one_kernel(module)
        check_finite(module, directory)
        _check_embedding(directory, module)
        digest = weights_sha256(module)
        name, positions = str(config.get("model_type")), trained_positions(config)
        with _in_one_line(directory):
            traits = find_traits(module, name=name, trained_positions=positions)
    return HuggingFaceModel(
        module, traits, name=name, bos=read_bos(directory, config), weights_sha256=digest, trained_positions=positions,
        end_ids=read_end_ids(directory, config),
    )  # fmt: skip


def _is_known(transformers: Any, model_type: str) -> bool:
    """Return whether an installed package has code for a model_type."""
    mapping = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if model_type not in mapping:
        register_more_families()
    return model_type in mapping


def _load(transformers: Any, directory: Path, dtype: torch.dtype | None, *, trust: bool) -> nn.Module:
    """Return the model with all its weights. Raises DataError for weights that are missing or do not fit."""
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust}
    config = transformers.AutoConfig.from_pretrained(directory, **options)
    if not trust and type(config) not in transformers.AutoModelForCausalLM._model_mapping:  # noqa: SLF001 - no public way
        raise DataError(
            f"{directory} holds a {config.model_type} model, which is not a causal language model",
            hint="name a decoder-only model",
        )
    module, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, config=config, dtype="auto" if dtype is None else dtype, output_loading_info=True,
        use_safetensors=not has_only_pickles(directory), ignore_mismatched_sizes=True, **options,
    )  # fmt: skip
    _refuse_wrong_weights(directory, "lack", info.get("missing_keys", ()))
    _refuse_wrong_weights(directory, "have another shape for", info.get("mismatched_keys", ()))
    loaded: nn.Module = module
    return loaded


def _refuse_wrong_weights(directory: Path, what: str, keys: Iterable[Any]) -> None:
    """Raise DataError if transformers listed keys: it would draw those weights at random."""
    names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise DataError(
            f"the weights in {directory} {what} {names[0]}{more}", hint="they belong to another config.json"
        )


def _check_embedding(directory: Path, module: nn.Module) -> None:
    """Refuse a tokenizer with ids that have no row in the embedding. Raises DataError."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        return
    from tokenizers import Tokenizer

    rows = module.get_input_embeddings().num_embeddings  # type: ignore[operator]
    try:
        size = max(Tokenizer.from_file(str(path)).get_vocab().values(), default=-1) + 1
    # the tokenizers library raises a bare Exception
    except Exception as error:
        raise DataError(f"{path} is not a tokenizer.json: {error}") from error
    if size > rows:
        raise DataError(
            f"the tokenizer in {directory} has ids up to {size - 1}, but the embedding has {rows} rows",
            hint="the tokenizer belongs to another model, or the embedding was not resized",
        )


@contextmanager
def _in_one_line(directory: Path) -> Iterator[None]:
    """Turn what transformers raises into one line that names the directory."""
    try:
        yield
    except (TttkitError, MemoryError):
        raise
    except ImportError as error:
        raise UsageError(
            f"{directory} needs a package that is not installed: {one_line(error)}", hint="install that package"
        ) from error
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{directory} has weights that hold more than tensors, and reading them would run their code: refused",
            hint="save its state_dict() as safetensors on a machine where you trust it",
        ) from error
    except SafetensorError as error:
        raise DataError(
            f"a safetensors file in {directory} is incomplete or damaged: {one_line(error)}",
            hint="copy or download it again",
        ) from error
    # code that is not ours may raise anything
    except Exception as error:
        # kernels of flash-linear-attention refuse float32 in these words
        hint = "choose a type that its kernels have: --dtype bf16" if "not support float32" in str(error) else None
        raise DataError(f"transformers cannot load {directory}: {one_line(error)}", hint=hint) from error
