"""Evaluate models on a Ray cluster: tasks compute the blocks of an evaluation, which then reads them.

Blocks are what a killed evaluation leaves for its next call (`evaluate/blocks.py`), so the results have the bits of one
process with as many threads, whatever happens to the workers. All machines must see the models, the data and the
directories of the results under the same paths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tttkit.cluster.tasks import Cluster
from tttkit.device import find_device, prepare_device
from tttkit.evaluate.blocks import Compute, NllBlocks
from tttkit.evaluate.model_directory import has_results, measure_blocks
from tttkit.evaluate.request import EvaluationRequest, prepare
from tttkit.evaluate.threads import record_threads
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.run.threads import ThreadChoice
from tttkit.storage import files


@dataclasses.dataclass(frozen=True)
class PartOfBlocks(NllBlocks):
    """Computes every `num_parts`-th block, beginning with number `part`; the other blocks are zeros."""

    part: int
    num_parts: int
    _names: list[str] = dataclasses.field(default_factory=list)

    def block(
        self, name: str, sequences: NDArray[np.int64], compute: Compute, progress: Callable[[float], None]
    ) -> NDArray[np.float32]:
        """Return the NLL of some sequences, or zeros if another part computes it."""
        self._names.append(name)
        if (len(self._names) - 1) % self.num_parts == self.part:
            return super().block(name, sequences, compute, progress)
        return np.zeros((sequences.shape[0], sequences.shape[1] - 1), dtype=np.float32)


def compute_blocks(
    cluster: Cluster,
    pairs: Sequence[tuple[EvaluationRequest, Path]],
    *,
    progress: Callable[[float], None],
    poll: Callable[[], None] = lambda: None,
) -> None:
    """Compute the blocks of all evaluations, given as requests and directories of their results.

    `progress` is called with the share of tasks that are done. The directories are held until the blocks are computed.
    Raises what the evaluations raise, and RunLockedError while another process holds a directory.
    """
    on_gpu = cluster.has_gpus and all(request.device in (None, "cuda") for request, _ in pairs)
    num_parts = cluster.num_slots(on_gpu=on_gpu)
    tasks = [
        (dataclasses.replace(request, path=_absolute(request.path), data=request.data and _absolute(request.data)),
         directory.absolute(), part, num_parts)
        for request, directory in pairs for part in range(num_parts)
    ]  # fmt: skip
    with ExitStack() as stack:
        for directory in dict.fromkeys(directory for _, directory in pairs):
            files.make_directory(directory)
            stack.enter_context(exclusive(RunDirectory(directory)))
        for done, _ in enumerate(cluster.run(_compute_part, tasks, on_gpu=on_gpu, poll=poll), start=1):
            progress(done / len(tasks))


def _absolute(path: Path) -> Path:
    return path if str(path).startswith("hf:") else path.absolute()


def _compute_part(request: EvaluationRequest, directory: Path, part: int, num_parts: int) -> None:
    """Compute one part of the blocks of an evaluation, on any machine."""
    job = prepare(request)
    if has_results(directory, job):
        return
    device = find_device(request.device)
    prepare_device(device)
    job.model.to(device)
    whole = NllBlocks.beside(directory, job.key)
    if device == "cpu":
        record_threads(whole.path, ThreadChoice(num_threads=torch.get_num_threads(), why="--engine ray"))
    measure_blocks(job, PartOfBlocks(whole.path, part, num_parts))
