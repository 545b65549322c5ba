"""The processes that train one model together, as torchrun describes them in environment variables. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from tttkit.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """The place of this process among the ranks of a run; by default it is the only one."""

    rank: int = 0
    """Number of this process, from 0. Rank 0 alone writes files and decides when to save."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine; it also is the number of its GPU."""
    local_size: int = 1
    """Number of processes on this machine."""
    restart: int = 0
    """How often torchrun has restarted all processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process is rank 0."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes."""
        return self.size > 1


ONE_PROCESS = World()
"""A run without torchrun, or of one process under torchrun."""


def world_of(environment: Mapping[str, str] = os.environ) -> World:
    """Return the world that torchrun describes in RANK, WORLD_SIZE, LOCAL_RANK, …; one process without them.

    Raises UsageError for values that contradict each other.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return ONE_PROCESS
    rank, size = (_number(environment, name) for name in ("RANK", "WORLD_SIZE"))
    if not 0 <= rank < size:
        raise UsageError(f"RANK must be in 0 … WORLD_SIZE - 1, got {rank} of {size}", hint="start ranks with torchrun")
    if size > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        raise UsageError(
            f"WORLD_SIZE is {size}, but MASTER_ADDR and MASTER_PORT are not both set", hint="start ranks with torchrun"
        )
    return World(
        rank=rank,
        size=size,
        local_rank=_number(environment, "LOCAL_RANK", rank),
        local_size=_number(environment, "LOCAL_WORLD_SIZE", size),
        restart=_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
    )


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise UsageError(f"{name} must be a whole number, got {text!r}", hint="start ranks with torchrun") from None
