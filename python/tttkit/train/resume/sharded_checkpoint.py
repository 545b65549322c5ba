"""Training checkpoints of sharded models: every rank writes its shards, and rank 0 commits the directory.

`state/step_N/` then has one file `shard-RRRRR-of-NNNNN.safetensors` per rank besides `tensors.safetensors`, which rank
0 writes with all that is not sharded. The manifest comes last, after every rank has synced its file and told its
digest. So the directory exists whole or not at all, whichever rank or machine stops.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tttkit.distributed.ranks import Ranks
from tttkit.distributed.shard_files import write_shards
from tttkit.distributed.sharded import is_sharded
from tttkit.errors import DiskFullError
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits
from tttkit.train.resume.checkpoint import SCHEMA_VERSION, drop_old, tensors_of, write_state


def save_sharded_checkpoint(
    run: RunDirectory,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    extra: dict[str, torch.Tensor],
    *,
    ranks: Ranks,
    stable_end: int | None = None,
) -> None:
    """Commit a training checkpoint as `save_checkpoint` does; all ranks must call this at the same step.

    `values` and `extra` count on rank 0 alone. Raises DiskFullError or OSError on every rank if one cannot write.
    """
    tensors = tensors_of(model, optimizer)
    shards = {name: tensor for name, tensor in tensors.items() if is_sharded(tensor)}
    entries: dict[str, commits.Entry] = {}
    with ExitStack() as stack:
        directory = _open(stack, run.states / f"step_{step}", entries, ranks)
        file = directory / f"shard-{ranks.world.rank:05d}-of-{ranks.world.size:05d}.safetensors"
        entry, failure = None, None
        try:
            write_shards(file, shards)
            entry = commits.entry_of(file)
            if ranks.world.is_first:
                rest = {name: tensor for name, tensor in tensors.items() if name not in shards}
                write_state(directory, step, rest | extra, {"schema_version": SCHEMA_VERSION, **values})
        except OSError as error:
            failure = error
        _agree(ranks, file.name, entry, failure, entries)
    if ranks.world.is_first:
        drop_old(run, stable_end)


def _open(stack: ExitStack, path: Path, entries: dict[str, commits.Entry], ranks: Ranks) -> Path:
    """Return the directory to write into, which rank 0 makes and commits when `stack` ends. Raises OSError."""
    directory: Path | None = None
    if ranks.world.is_first:
        try:
            directory = stack.enter_context(commits.commit_directory(path, entries))
        except OSError as error:
            ranks.tell({"failure": _text(error)})
            raise
        ranks.tell({"directory": str(directory)})
        return directory
    told = ranks.tell(None)
    if "failure" in told:
        raise OSError(f"rank 0: {told['failure']}")
    return Path(told["directory"])


def _agree(
    ranks: Ranks, name: str, entry: commits.Entry | None, failure: OSError | None, entries: dict[str, commits.Entry]
) -> None:
    """Exchange entries of the manifest. Raises the failure of this rank, or an OSError that names another rank's."""
    told = ranks.gather([name, entry, failure and _text(failure), isinstance(failure, DiskFullError)])
    if failure is not None:
        raise failure
    for rank, (_, _, text, is_full) in enumerate(told):
        if text is not None:
            message = f"rank {rank}: {text}"
            raise (
                DiskFullError(message, hint="free disk space, then run the command again")
                if is_full
                else OSError(message)
            )
    entries |= {name: entry for name, entry, _, _ in told}


def _text(error: OSError) -> str:
    return str(error) or type(error).__name__
