"""Finished parts of an evaluation on disk: a killed evaluation continues, and no finished part is computed again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from tttkit.results.contexts import CONTEXTS
from tttkit.run.directory import BLOCKS_PREFIX, KEY_LENGTH, RunDirectory
from tttkit.run.lock import exclusive
from tttkit.storage import commits, files

SELECTION = "selection"
"""The stage that computes selection_ppl; the other stages have the names of their contexts."""
_SELECTION_ROWS = 1024


Arrays = dict[str, NDArray[Any]]
"""Named arrays of one block."""


class Compute(Protocol):
    """A function that computes the NLL of sequences in one context."""

    def __call__(self, tokens: NDArray[np.int64], *, progress: Callable[[float], None]) -> NDArray[np.float32]:
        """Return float32 (sequences, positions) for int64 (sequences, positions + 1)."""


@dataclasses.dataclass(frozen=True)
class NllBlocks:
    """Blocks of NLL in their own directory, whose name carries the key of their evaluation."""

    path: Path

    @classmethod
    def beside(cls, directory: Path, key: str) -> NllBlocks:
        """Return the blocks of the evaluation `key` in `directory`; blocks with other keys are removed."""
        path = directory / f"{BLOCKS_PREFIX}{key[:KEY_LENGTH]}"
        for other in directory.glob(f"{BLOCKS_PREFIX}*"):
            if other != path:
                commits.remove_directory(other)
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    def fill(
        self,
        stage: str,
        sequences: NDArray[np.int64],
        compute: Compute,
        progress: Callable[[float], None],
        *,
        settings: str = "",
    ) -> NDArray[np.float32]:
        """Return the NLL of all sequences, block by block; a stage has blocks of its own for other `settings`."""
        count, parts = len(sequences), []
        name = f"{stage}-{hashlib.sha256(settings.encode()).hexdigest()[:KEY_LENGTH]}" if settings else stage
        size = _SELECTION_ROWS if stage == SELECTION else CONTEXTS[stage].block_sequences
        for first in range(0, count, size):
            rows = sequences[first : first + size]
            tick = share_of(progress, first / count, len(rows) / count)
            parts.append(self.block(f"{name}-{first:06d}", rows, compute, tick))
            tick(1.0)
        return np.concatenate(parts)

    def block(
        self, name: str, sequences: NDArray[np.int64], compute: Compute, progress: Callable[[float], None]
    ) -> NDArray[np.float32]:
        """Return the NLL of some sequences: read it if the block is present and intact, else compute and keep it."""
        shape = (sequences.shape[0], sequences.shape[1] - 1)

        def fits(arrays: Arrays) -> bool:
            part = arrays.get("nll")
            return part is not None and part.shape == shape and part.dtype == np.float32

        return self.arrays(name, lambda: {"nll": compute(sequences, progress=progress)}, fits)["nll"]

    def arrays(
        self, name: str, compute: Callable[[], Arrays], fits: Callable[[Arrays], bool] = lambda _: True
    ) -> Arrays:
        """Return named arrays: read them if they are present, intact and as they should be, else compute and keep."""
        path = self.path / f"{name}.safetensors"
        known = _read(path)
        if known is not None and fits(known):
            return known
        computed = compute()
        files.write_bytes(path, save({**computed, "sha256": _digest(computed)}))
        return computed

    def remove(self) -> None:
        """Remove the blocks, once their evaluation is written."""
        commits.remove_directory(self.path)


@contextmanager
def measuring(directory: Path, key: str) -> Iterator[NllBlocks]:
    """Hold `directory` for this process alone, and give the finished parts of the measurement `key` in it.

    Temporary files of killed processes are removed first. The parts are removed at the end, when the results are
    written; an exception keeps them, so that the next call goes on. Raises RunLockedError while another process holds
    the directory.
    """
    files.make_directory(directory)
    with exclusive(RunDirectory(directory)):
        commits.sweep_temporaries(directory)
        blocks = NllBlocks.beside(directory, key)
        yield blocks
        blocks.remove()


def evaluation_key(**parts: Any) -> str:
    """Return the SHA-256 of weights, data and protocol: equal keys give equal results."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> Arrays | None:
    """Read a block; None if it is missing or damaged, so that it is computed again."""
    try:
        with files.utf8_name(path) as name:
            arrays = load_file(name)
        digest = arrays.pop("sha256")
    except (OSError, SafetensorError, KeyError):
        return None
    return arrays if np.array_equal(digest, _digest(arrays)) else None


def _digest(arrays: Arrays) -> NDArray[np.uint8]:
    """Return the SHA-256 over the bytes of arrays, in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        whole.update(np.ascontiguousarray(arrays[name]).tobytes())
    return np.frombuffer(whole.digest(), dtype=np.uint8)


def share_of(progress: Callable[[float], None] | None, start: float, width: float) -> Callable[[float], None]:
    """Return a callback for a part of the work that begins at the share `start` and takes the share `width` of all."""
    return lambda done: None if progress is None else progress(start + width * done)
