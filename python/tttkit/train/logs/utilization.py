"""How much of a GPU a run uses: the share of its peak that the model's arithmetic reaches, and what it reports."""

from __future__ import annotations

import time
from contextlib import suppress

import torch

from tttkit.config.model import ModelConfig

_PEAK_SIZES = {"cpu": 2048, "cuda": 4096}
"""Sides of the product that tells a device's peak; a large GPU is done with a smaller one before it is awaited."""


class Utilization:
    """Figures of the GPU that a model trains on, for the log; none on a CPU, whose peak is shared with everything."""

    def __init__(
        self, config: ModelConfig, *, window: int, tokens_per_step: int, precision: str | None, device: torch.device
    ) -> None:
        """Measure the device's peak, which takes milliseconds."""
        self._device = device
        self._flop = tokens_per_step * flop_per_token(config, window)
        self._peak = peak_flop_per_second(device, precision) if device.type == "cuda" else 0.0

    def record(self, step_seconds: float) -> dict[str, float]:
        """`mfu` (share of the peak), `gpu_memory_used`, `gpu_memory_total` (bytes), `gpu_utilization` (share of time).

        The last is there where the package nvidia-ml-py is, and all of them on a GPU alone.
        """
        if self._device.type != "cuda":
            return {}
        free, total = torch.cuda.mem_get_info(self._device)
        found = {
            "mfu": self._flop / step_seconds / self._peak,
            "gpu_memory_used": float(total - free),
            "gpu_memory_total": float(total),
        }
        with suppress(ModuleNotFoundError, RuntimeError):  # nvidia-ml-py is not installed, or the driver is silent
            found["gpu_utilization"] = torch.cuda.utilization(self._device) / 100
        return found


def flop_per_token(config: ModelConfig, window: int) -> float:
    """Floating-point operations of forward and backward for one token: 6 per weight of a matrix, and the mixing.

    Norms, embeddings and pointwise work are left out. Mixing is attention over half a window, or the products of the
    inner loop: with C tokens in a mini-batch and head width d, 3 d^2 + 2 C d of multiply-adds per head and layer
    for TTT-Linear; for TTT-MLP, whose layers are 4 d wide, 16 times the first and 5 times the second.
    """
    width, layers, heads, d = config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.head_dim
    projections = 4 - config.share_qk + config.use_gate
    matrices = layers * (projections * width * width + 3 * width * config.intermediate_size) + config.vocab_size * width
    if config.architecture == "ttt":
        outer, inner = (3, 2) if config.ttt_layer_type == "linear" else (24, 5)
        mixing = layers * heads * (outer * d * d + inner * config.mini_batch_size * d)
    else:
        mixing = layers * width * window
    return 6.0 * (matrices + mixing)


def peak_flop_per_second(device: torch.device, precision: str | None, *, rounds: int = 3) -> float:
    """Floating-point operations per second of a square product, the fastest of `rounds`."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = _PEAK_SIZES.get(device.type, _PEAK_SIZES["cpu"])
    generator = torch.Generator(device).manual_seed(0)  # of its own: a run's random numbers stay where they were
    a, b = torch.randn(2, size, size, device=device, dtype=dtype, generator=generator).unbind()
    times = []
    for _ in range(rounds + 1):  # the first warms up
        synchronize(device)
        started = time.perf_counter()
        torch.mm(a, b)
        synchronize(device)
        times.append(time.perf_counter() - started)
    return 2.0 * size**3 / min(times[1:])


def synchronize(device: torch.device) -> None:
    """Wait for everything that a GPU has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
