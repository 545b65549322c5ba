"""Conversion to and from the names and shapes of the official TTT code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tttkit.config.model import ModelConfig
from tttkit.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tttkit.models.language_model import LanguageModel

_TIED_HEAD = "lm_head.weight"
_EMBEDDING = "model.embed_tokens.weight"


def from_official(config: Mapping[str, Any] | ModelConfig, state_dict: Mapping[str, Tensor]) -> LanguageModel:
    """Build a model in float32 with a copy of the given weights.

    `config` is an official config.json as a dictionary, or a ModelConfig. The alias `lm_head.weight` of a tied model is
    optional. Raises one ValueError that lists all names that are missing, unexpected, of another shape, or not of a
    floating-point type.
    """
    if not isinstance(config, ModelConfig):
        config = ModelConfig.from_official(dict(config))
    with torch.device("meta"):
        expected = {name: tuple(parameter.shape) for name, parameter in build_model(config).named_parameters()}
    given = dict(state_dict)
    head = given.pop(_TIED_HEAD, None) if config.tie_word_embeddings else None
    _check_names(expected, given)
    if head is not None and not torch.equal(head, given[_EMBEDDING]):
        raise ValueError(f"{_TIED_HEAD} differs from {_EMBEDDING}, but the config ties them (tie_word_embeddings)")
    with torch.random.fork_rng(devices=[]):
        model = build_model(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(given[name])
    return model


def to_official(model: LanguageModel, *, grads: bool = False) -> dict[str, Tensor]:
    """Return the weights under the official names, sharing the model's memory; with `grads`, the gradients instead."""
    if grads:
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _check_names(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, Tensor]) -> None:
    faults = [f"missing {name} {shape}" for name, shape in expected.items() if name not in given]
    for name, tensor in given.items():
        if name not in expected:
            faults.append(f"unexpected {name} {tuple(tensor.shape)}")
        elif tuple(tensor.shape) != expected[name]:
            faults.append(f"misshaped {name}: expected {expected[name]}, got {tuple(tensor.shape)}")
        elif not tensor.is_floating_point():
            faults.append(f"wrong dtype of {name}: expected floating point, got {tensor.dtype}")
    if faults:
        raise ValueError(f"state_dict does not fit the config in {len(faults)} names: {'; '.join(faults)}")
