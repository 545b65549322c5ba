"""Which device to compute on, and how a CPU is made ready for it."""

from __future__ import annotations

import ctypes

import torch

from tttkit.errors import UsageError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1


def resolve_device(name: str | None, *, exact: bool = False) -> str:
    """`name` when torch can use it; for None the GPU where there is one, else the CPU. Raises UsageError.

    A GPU is made ready: it becomes torch's current one, where kernels and graphs run that are told no other, and its
    products of float32 are rounded to tf32, several times as fast, unless they shall be `exact`.
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
    torch.cuda.set_device(number)
    torch.set_float32_matmul_precision("highest" if exact else "high")
    return name


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
