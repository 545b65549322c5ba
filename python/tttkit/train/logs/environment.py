"""Versions, threads and hardware: besides its configuration, the bits of a run depend on them."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import tttkit
from tttkit.run import processes

_KEYS_THAT_CHANGE_BITS = (
    "tttkit",
    "torch",
    "numpy",
    "cuda",
    "cudnn",
    "gpu",
    "cpu",
    "cpu_capability",
    "num_threads",
    "platform",
)


def environment() -> dict[str, Any]:
    """Return versions, threads and hardware of this process, but no environment variables: they may hold secrets."""
    has_gpu = torch.cuda.is_available()
    return {
        "tttkit": tttkit.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "tokenizers": version("tokenizers"),
        "safetensors": version("safetensors"),
        "cuda": torch.version.cuda if has_gpu else None,
        "cudnn": torch.backends.cudnn.version() if has_gpu else None,  # type: ignore[no-untyped-call]
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "cpu": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "platform": sys.platform,
        "host": socket.gethostname(),
        "boot_id": processes.boot_id(),
        "git_commit": _git_commit(),
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return a line `key: before -> after` for every difference that may change bits."""
    return [
        f"{key}: {before[key]} -> {after.get(key)}"
        for key in _KEYS_THAT_CHANGE_BITS
        if key in before and before[key] != after.get(key)
    ]


def _git_commit() -> str | None:
    """Return the commit of the checkout that tttkit runs from; None for an installed wheel."""
    source = Path(tttkit.__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    tracked = "site-packages" not in source.parts and answer.returncode == 0
    return answer.stdout.strip() if tracked else None
