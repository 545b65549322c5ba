"""The surroundings of a run: its newest training checkpoint, the disk, and the GPUs. No torch."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints

_GPU_QUERY = "index,utilization.gpu,memory.used,memory.total,temperature.gpu"
_GPU_SECONDS = 2.0


def newest_training_checkpoint(run: RunDirectory) -> tuple[int, float] | None:
    """Return step and age in seconds by the wall clock of the newest training checkpoint; None before the first.

    Raises OSError when the directory of training checkpoints cannot be listed.
    """
    for step, path in training_checkpoints(run):
        with suppress(FileNotFoundError):  # the trainer has just replaced it by a newer one
            return step, max(0.0, time.time() - path.stat().st_mtime)
    return None


def disk(path: Path) -> tuple[int, int]:
    """Return the bytes that a run takes, and the bytes free on its disk."""
    return _bytes_in(path), shutil.disk_usage(path).free


def gpus() -> list[dict[str, int]]:
    """Return index, utilization (percent), memory_used and memory_total (MiB), and temperature (°C) of each GPU.

    The list is empty without a GPU, or when its driver does not answer within two seconds.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    import subprocess

    command = ["nvidia-smi", f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(answer)


def parse_gpus(answer: str) -> list[dict[str, int]]:
    """Parse the lines that nvidia-smi prints; a value that a card does not report is left out."""
    names = ("index", "utilization", "memory_used", "memory_total", "temperature")
    rows = [[part.strip() for part in line.split(",")] for line in answer.splitlines() if line.strip()]
    return [{name: int(part) for name, part in zip(names, row, strict=False) if part.isdigit()} for row in rows]


def advantage(summary: Summary) -> dict[str, Any] | None:
    """Return the longest labeled position of an evaluation; None when it has no labels.

    Keys are label, full_ppl, sw_ppl, ratio (SW/full), ratio_low, and ratio_high.
    """
    labels = summary.labels()
    if not labels:
        return None
    multiple = max(labels)
    ratio = summary.ratio("sw", multiple)
    return {
        "label": f"{multiple}xW",
        "full_ppl": summary.perplexity("full", multiple),
        "sw_ppl": summary.perplexity("sw", multiple),
        "ratio": ratio.value,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
    }


def _bytes_in(path: Path) -> int:
    total = 0
    with suppress(OSError):  # an entry may be removed while it is counted
        for entry in os.scandir(path):
            with suppress(OSError):
                is_directory = entry.is_dir(follow_symlinks=False)
                total += _bytes_in(Path(entry.path)) if is_directory else entry.stat(follow_symlinks=False).st_size
    return total
