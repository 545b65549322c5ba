"""The ranks of a distributed run, as `status` shows them. No torch."""

from __future__ import annotations

from typing import Any

from tttkit.run import processes
from tttkit.run.directory import RunDirectory
from tttkit.run.ranks_file import RanksFile

_SILENT_SECONDS = 10.0
"""A rank whose last sign of life is older than this is called silent."""


def read_ranks(run: RunDirectory, metadata: dict[str, Any], *, is_live: bool) -> dict[str, Any] | None:
    """Return world_size, ages, slowest, slowest_seconds, silent and lost; None for a run of one process.

    Ages are seconds since a rank's last sign of life, as far as rank 0 has seen it; they are empty if the run has ended
    or is on another machine.
    """
    values = RanksFile(run).read()
    world_size = metadata.get("world_size", 1)
    if values is None or world_size == 1 or values["world_size"] != world_size:
        return None
    since = processes.seconds_since(values)
    ages = [] if since is None or not is_live else [rank["age_seconds"] + since for rank in values["ranks"]]
    own = {rank["rank"]: rank["own_seconds"] for rank in values["ranks"] if rank["own_seconds"] is not None}
    slowest = max(own, key=lambda rank: own[rank], default=None)
    return {
        "world_size": world_size,
        "ages": [round(age, 1) for age in ages],
        "slowest": slowest,
        "slowest_seconds": None if slowest is None else own[slowest],
        # the file itself is a few seconds old
        "silent": [rank["rank"] for rank in values["ranks"] if is_live and rank["age_seconds"] > _SILENT_SECONDS],
        "lost": values["lost"],
    }
