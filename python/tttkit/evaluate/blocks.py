"""What an evaluation has done so far, on disk: a killed one goes on, a finished one is not done again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from tttkit.run.directory import BLOCKS_PREFIX, KEY_LENGTH
from tttkit.storage import commits, files

ROWS = {"selection": 1024, "full": 64, "reset": 64, "sw_aligned": 16, "sw": 2}
"""Sequences of a block: fewer where each costs more."""


class Compute(Protocol):
    """NLL of some sequences in one context."""

    def __call__(self, tokens: NDArray[np.int64], *, progress: Callable[[float], None]) -> NDArray[np.float32]:
        """float32 (sequences, positions) of int64 (sequences, positions + 1)."""


@dataclasses.dataclass(frozen=True)
class NllBlocks:
    """Blocks of NLL in a directory of their own, whose name carries the key of the evaluation they belong to."""

    path: Path

    @classmethod
    def beside(cls, directory: Path, key: str) -> NllBlocks:
        """The blocks of the evaluation `key` that is to end in `directory`; those of other keys there are removed."""
        path = directory / f"{BLOCKS_PREFIX}{key[:KEY_LENGTH]}"
        for other in directory.glob(f"{BLOCKS_PREFIX}*"):
            if other != path:
                commits.remove_directory(other)
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    def fill(
        self, context: str, sequences: NDArray[np.int64], compute: Compute, progress: Callable[[float], None]
    ) -> NDArray[np.float32]:
        """NLL of all sequences, block by block."""
        count, size, parts = len(sequences), ROWS[context], []
        for first in range(0, count, size):
            rows = sequences[first : first + size]
            tick = share_of(progress, first / count, len(rows) / count)
            parts.append(self.block(f"{context}-{first:06d}", rows, compute, tick))
            tick(1.0)
        return np.concatenate(parts)

    def block(
        self, name: str, sequences: NDArray[np.int64], compute: Compute, progress: Callable[[float], None]
    ) -> NDArray[np.float32]:
        """NLL of some sequences: read where it is there and whole, else computed and kept."""
        path = self.path / f"{name}.safetensors"
        part = _read(path, (sequences.shape[0], sequences.shape[1] - 1))
        if part is None:
            part = compute(sequences, progress=progress)
            files.write_bytes(path, save({"nll": part, "sha256": _digest(part)}))
        return part

    def remove(self) -> None:
        """Take the blocks away, once what they are for is written."""
        commits.remove_directory(self.path)


def evaluation_key(**parts: Any) -> str:
    """SHA-256 over weights, data and protocol: equal keys, equal results."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """A block of the shape expected; None where it is missing or damaged, then it is computed again."""
    try:
        found = load_file(path)
        part: NDArray[np.float32] = found["nll"]
        is_whole = np.array_equal(found["sha256"], _digest(part))
    except (OSError, SafetensorError, KeyError):
        return None
    return part if is_whole and part.shape == shape and part.dtype == np.float32 else None


def _digest(part: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(part.tobytes()).digest(), dtype=np.uint8)


def share_of(progress: Callable[[float], None] | None, start: float, width: float) -> Callable[[float], None]:
    """What tells `progress` of a part of the work, from `start` on and `width` of it, given the share of that part."""
    return lambda done: None if progress is None else progress(start + width * done)
