"""The utilization of a GPU: model FLOP/s as a share of its peak speed, memory and load."""

from __future__ import annotations

import time
from contextlib import suppress

import torch

_PEAK_SIZES = {"cpu": 2048, "cuda": 4096}
"""Size of the matrix product that measures a device's peak speed; a smaller one would not keep a large GPU busy."""


class Utilization:
    """Measures the GPU that trains, for the log. A CPU is not measured, because other processes use it too."""

    def __init__(self, flops_per_step: float, *, precision: str | None, device: torch.device) -> None:
        """Measure the device's peak speed, which takes milliseconds; `flops_per_step` is the cost of an update."""
        self._device = device
        self._flops = flops_per_step
        self._peak = peak_flop_per_second(device, precision) if device.type == "cuda" else 0.0

    def record(self, step_seconds: float) -> dict[str, float]:
        """Return `mfu` (share of the peak), `gpu_memory_used`, `gpu_memory_total` (bytes), `gpu_utilization` (of time).

        `gpu_utilization` needs the package nvidia-ml-py. On a CPU the record is empty.
        """
        if self._device.type != "cuda":
            return {}
        free, total = torch.cuda.mem_get_info(self._device)
        record = {
            "mfu": self._flops / step_seconds / self._peak,
            "gpu_memory_used": float(total - free),
            "gpu_memory_total": float(total),
        }
        # nvidia-ml-py is not installed, or the driver does not answer
        with suppress(ModuleNotFoundError, RuntimeError):
            record["gpu_utilization"] = torch.cuda.utilization(self._device) / 100
        return record


def peak_flop_per_second(device: torch.device, precision: str | None, *, rounds: int = 3) -> float:
    """Return the floating-point operations per second of a square matrix product, the fastest of `rounds`."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = _PEAK_SIZES.get(device.type, _PEAK_SIZES["cpu"])
    # a generator of its own, so that the random numbers of the run do not change
    generator = torch.Generator(device).manual_seed(0)
    a, b = torch.randn(2, size, size, device=device, dtype=dtype, generator=generator).unbind()
    times = []
    # the first round warms up
    for _ in range(rounds + 1):
        synchronize(device)
        started = time.perf_counter()
        torch.mm(a, b)
        synchronize(device)
        times.append(time.perf_counter() - started)
    return 2.0 * size**3 / min(times[1:])


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished all its work; return at once on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
