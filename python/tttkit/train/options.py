"""Options of a call of `train` that are no settings: how a run is executed, and what a new run starts from."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of `start.train` besides the configuration."""

    resume: bool = True
    """Resume the run that the directory holds; False refuses a directory that holds a run."""
    auto_microbatch: bool = False
    """Halve the micro-batch when memory runs out; the batch of an update stays the same."""
    grace_seconds: float = 10.0
    """Seconds between SIGTERM and the forced exit of the process."""
    allow_data_change: bool = False
    """Resume even if the data fingerprint changed."""
    allow_change: frozenset[str] = frozenset()
    """Configuration keys (`section.key`) and `world_size` that may differ from the earlier segments of the run."""
    init_from: str | None = None
    """Model directory, run or training checkpoint whose weights a new run starts with."""
    branch_from: str | None = None
    """Training checkpoint of another run, RUN@STEP, that a new run continues from."""
    command: tuple[str, ...] = ()
    """The command line, for metadata.json and for the next command that `status` shows."""
