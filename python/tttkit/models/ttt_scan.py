"""The one place that decides which code runs the inner loops of a TTT layer."""

from __future__ import annotations

import importlib.util
import shutil
from typing import TYPE_CHECKING

import torch

from tttkit.models.ttt_inner import Chunks, Matrices, ScanResult, scan_linear, scan_mlp

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig


def triton_obstacle() -> str | None:
    """Return why this machine cannot use Triton, in a few words: it lacks Triton or a C compiler; None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "no Triton found"
    return None if shutil.which("gcc") or shutil.which("clang") else "no C compiler found"


_TRITON_OBSTACLE = triton_obstacle()
_MAX_TILE = 64 * 64
"""Largest tile, C x d rounded up to powers of two, that fits the registers and the shared memory of the kernel."""


def scan(config: ModelConfig, chunks: Chunks, weights: Matrices, pending: Matrices | None) -> ScanResult:
    """Run the inner loops over some pieces; arguments and results as in `ttt_inner.scan_linear`."""
    if config.ttt_layer_type == "mlp":
        return scan_mlp(chunks, weights, pending)
    if fused_obstacle(config, chunks.queries.device.type, chunks.queries.dtype) is None:
        from tttkit.models.ttt_linear_op import scan_linear_fused  # imported here because it needs Triton

        return scan_linear_fused(chunks, weights, pending)
    return scan_linear(chunks, weights, pending)


def fused_obstacle(config: ModelConfig, device_type: str, dtype: torch.dtype) -> str | None:
    """Return why the Triton kernel cannot run a model's inner loops, in a few words; None if it can."""
    if device_type != "cuda":
        return f"none for a {device_type.upper()}"
    if config.ttt_layer_type != "linear":
        return f"none for TTT-{config.ttt_layer_type.upper()}"
    if config.inner_decay != "none":
        return "none for model.inner_decay"
    if dtype == torch.float64:
        return "none for float64"
    if _power_of_two(config.mini_batch_size) * _power_of_two(config.head_dim) > _MAX_TILE:
        return f"none for mini-batches of {config.mini_batch_size} with heads of {config.head_dim}"
    return _TRITON_OBSTACLE


def _power_of_two(extent: int) -> int:
    """Return the extent of a tile: the next power of two, at least 16."""
    return max(16, 1 << (extent - 1).bit_length())
