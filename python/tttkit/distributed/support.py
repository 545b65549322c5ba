"""What a run of several ranks supports, and the device of each rank."""

from __future__ import annotations

from tttkit.config.run import Config
from tttkit.errors import UsageError
from tttkit.run.world import World


def refuse_unsupported(config: Config, world: World, *, auto_microbatch: bool) -> None:
    """Refuse options that several ranks cannot have. Raises UsageError."""
    if not world.is_distributed:
        return
    if auto_microbatch:
        raise UsageError(
            f"--auto-microbatch works with one process, but there are {world.size} ranks: one rank cannot repeat an "
            "update without the others",
            hint="set train.micro_batch",
        )
    if (config.train.device or "").startswith("cuda:"):
        raise UsageError(
            f"train.device is {config.train.device}, but every one of {world.size} ranks needs a GPU of its own",
            hint="--device cuda: each rank takes the GPU with its local rank",
        )


def device_of_rank(device: str, world: World) -> str:
    """Return the device of this rank: the GPU with the number of its local rank, or the CPU."""
    return f"cuda:{world.local_rank}" if world.is_distributed and device == "cuda" else device
