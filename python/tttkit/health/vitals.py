"""What surrounds a run: its newest saved state, the disk, the GPU. Files and one short command; no torch."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory

_STATE = re.compile(r"^step_(\d+)$")
_GPU_QUERY = "index,utilization.gpu,memory.used,memory.total,temperature.gpu"
_GPU_SECONDS = 2.0


def newest_state(run: RunDirectory) -> tuple[int, float] | None:
    """Step of the newest resumable state and its age in seconds by the wall clock; None before the first."""
    found: list[tuple[int, float]] = []
    with suppress(OSError):
        for entry in os.scandir(run.states):
            if match := _STATE.match(entry.name):
                with suppress(OSError):  # a newer state may be taking its place
                    found.append((int(match[1]), entry.stat().st_mtime))
    if not found:
        return None
    step, written = max(found)
    return step, max(0.0, time.time() - written)


def disk(path: Path) -> tuple[int, int]:
    """Bytes that a run takes, and bytes free where it is."""
    return _bytes_in(path), shutil.disk_usage(path).free


def gpus() -> list[dict[str, int]]:
    """Per GPU its index, utilization in percent, memory used and in all in MiB, temperature in degrees Celsius.

    Empty without a GPU, or where its driver does not answer in two seconds.
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
    """Lines of nvidia-smi's answer; what a card does not report is left out."""
    names = ("index", "utilization", "memory_used", "memory_total", "temperature")
    rows = [[part.strip() for part in line.split(",")] for line in answer.splitlines() if line.strip()]
    return [{name: int(part) for name, part in zip(names, row, strict=False) if part.isdigit()} for row in rows]


def advantage(summary: Summary | None) -> dict[str, Any] | None:
    """The longest labelled context of an evaluation: label, full and sw perplexity, SW/full with its interval."""
    if summary is None or not summary.labels():
        return None
    multiple = max(summary.labels())
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
    with suppress(OSError):  # what vanishes while it is counted takes no room
        for entry in os.scandir(path):
            with suppress(OSError):
                is_directory = entry.is_dir(follow_symlinks=False)
                total += _bytes_in(Path(entry.path)) if is_directory else entry.stat(follow_symlinks=False).st_size
    return total
