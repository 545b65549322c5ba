"""`--init-from`: a new run that starts with the weights of another model, and with an optimizer of its own."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch

from tttkit.config.layers import difference
from tttkit.errors import DataError
from tttkit.evaluate.tokenizers import check_tokenizer
from tttkit.models import LanguageModel
from tttkit.models.storage import read_model_config
from tttkit.train.parent.source import Source, read_source

_LAYER = re.compile(r"^model\.layers\.\d+")
_EMBEDDING = "model.embed_tokens.weight"


def start_warm(model: LanguageModel, parent: dict[str, Any], data: Path) -> list[str]:
    """Copy the weights that `parent` names into a model whose weights are initial, and complete the record `parent`.

    Parameters that the source lacks keep their initial values. Returns messages for the user. Raises DataError if a
    tensor of the source has no place in the model, if the tokenizer is another one, or if the weights have changed
    since they were recorded.
    """
    source = read_source(parent["path"])
    digest = source.weights_sha256
    if parent.get("weights_sha256", digest) != digest:
        raise DataError(
            f"the weights in {source.path} have changed since the run was started", hint="choose another --out"
        )
    _check_shapes(source, model)
    tokenizer = compare_tokenizers(source, data)
    kept = sorted(name for name, _ in model.named_parameters() if name not in source.tensors)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in source.tensors:
                parameter.copy_(source.tensors[name])
    changes = difference(dataclasses.asdict(source.model), dataclasses.asdict(model.config))
    parent |= {
        "step": source.step, "weights_sha256": digest, "past_tokens": source.past_tokens, "initial_values": kept,
        "changes": changes,
    }  # fmt: skip
    past = "an unknown number of" if source.past_tokens is None else f"{source.past_tokens:,}"
    messages = [f"starts with the weights of {source.path}, which have seen {past} tokens"]
    messages += [f"{_folded(kept)} keep their initial values, because {source.path} does not have them"] if kept else []
    messages += [f"differs from the model in {source.path}: {'; '.join(changes)}"] if changes else []
    return messages + ([tokenizer] if tokenizer else [])


def _check_shapes(source: Source, model: LanguageModel) -> None:
    """Refuse the first tensor of the source that the model lacks or has in another shape. Raises DataError."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name, tensor in source.tensors.items():
        if name not in shapes:
            raise DataError(
                f"{source.path} has the tensor {name}, which a {model.config.name} model of this configuration lacks",
                hint="choose the model of the source, or one that contains it",
            )
        if tuple(tensor.shape) != shapes[name]:
            hint = "choose the sizes of the source"
            if name == _EMBEDDING and tensor.shape[1] == shapes[name][1]:
                hint = "the vocabularies differ: prepare the data with the tokenizer of the source"
            raise DataError(
                f"{name} has the shape {tuple(tensor.shape)} in {source.path}, but {shapes[name]} in this model",
                hint=hint,
            )


def compare_tokenizers(source: Source, data: Path) -> str | None:
    """Refuse data of another tokenizer; return a sentence if the source has none to compare. Raises DataError."""
    if source.tokenizer is None:
        return f"the run of {source.path} holds no model yet, so its tokenizer was not compared with that of the data"
    return check_tokenizer(source.tokenizer, read_model_config(source.tokenizer), data)


def _folded(names: list[str]) -> str:
    """Return names with those of one layer as one entry, with their number."""
    groups: dict[str, list[str]] = {}
    for name in names:
        match = _LAYER.match(name)
        groups.setdefault(match[0] if match else name, []).append(name)
    return ", ".join(
        members[0] if len(members) == 1 else f"{group} ({len(members)} tensors)" for group, members in groups.items()
    )
