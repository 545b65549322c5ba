"""The digest that names the weights of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def weights_sha256(model: nn.Module) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of all parameters, in order of name."""
    return tensors_sha256(model.named_parameters())


def tensors_sha256(named: Iterable[tuple[str, Tensor]]) -> str:
    """Return `weights_sha256` of the model that has these parameters."""
    digest = hashlib.sha256()
    for name, parameter in sorted(named, key=lambda item: item[0]):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
