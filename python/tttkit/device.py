"""Which device to compute on, and how a CPU is made ready for it."""

from __future__ import annotations

import ctypes

import torch

from tttkit.errors import UsageError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1


def find_device(name: str | None) -> str:
    """Return `name` when torch can use that device; for None the GPU where there is one, else the CPU.

    Raises UsageError. Changes nothing; `prepare_device` does.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device `{name}`", hint="cpu, cuda or cuda:N") from error
    if device.type != "cuda":
        return name
    if not torch.cuda.is_available():
        raise UsageError(f"device `{name}` was asked for, but torch sees no GPU", hint="--device cpu")
    number, count = device.index or 0, torch.cuda.device_count()
    if number >= count:
        raise UsageError(f"device `{name}` was asked for, but torch sees {count} GPU{'s' * (count > 1)}", hint="cuda:0")
    return name


def prepare_device(device: str, *, exact: bool = False) -> None:
    """Make a GPU torch's current one, where kernels and graphs run by default, and set the precision of its products.

    Products of float32 are rounded to tf32, which is several times as fast, unless they must be `exact`. A CPU needs
    `prepare_cpu` only.
    """
    chosen = torch.device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen.index or 0)
        torch.set_float32_matmul_precision("highest" if exact else "high")


def resolve_device(name: str | None, *, exact: bool = False) -> str:
    """Find a device and prepare it: `find_device`, then `prepare_device`."""
    device = find_device(name)
    prepare_device(device, exact=exact)
    return device


def prepare_cpu(num_threads: int | None = None) -> None:
    """Make this process ready to compute: threads (None: as many as torch takes), no denormals, memory kept.

    Denormals: saturated logits cost a CPU twenty times their time otherwise. Memory: above 32 MB glibc asks the system
    for every array and gives it back when it is freed, and the system clears each page anew; a training step with
    GPT-2's vocabulary does that some ten times with 200 MB. Kept, it is reused. Neither changes a result that is not
    denormal. Another C library than glibc is left as it is.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
