"""Which device to compute on."""

from __future__ import annotations

import torch

from tttkit.errors import UsageError


def resolve_device(name: str | None) -> str:
    """`name` when torch can use it; for None the GPU where there is one, else the CPU. Raises UsageError."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device `{name}`", hint="cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device `{name}` was asked for, but torch sees no GPU", hint="--device cpu")
    return name
