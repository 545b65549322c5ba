"""Join the ranks of a run into one process group, and leave it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from tttkit.distributed.ranks import Ranks
from tttkit.distributed.watch import Watch
from tttkit.errors import RankLostError, TttkitError
from tttkit.run.world import World

_RENDEZVOUS_SECONDS = 600
"""How long to wait for the other ranks to start."""
_COLLECTIVE_SECONDS = 1800
"""How long a collective may take while all ranks give signs of life; the watch finds lost ranks much earlier."""


@contextmanager
def joined(world: World, *, timeout: float) -> Iterator[Ranks]:
    """Join the other ranks for as long as the block lasts; `timeout` is `train.rank_timeout` in seconds.

    The backend is gloo, and NCCL for tensors on GPUs. An error that ends the block is told to the other ranks. Raises
    RankLostError if the other ranks do not start or one of them ends.
    """
    if not world.is_distributed:
        yield Ranks()
        return
    watch, store = _join(world, timeout)
    ranks = Ranks(world, store, watch)
    try:
        with ranks.naming_lost_ranks():
            yield ranks
            # the process of rank 0 may hold the store, in which another rank still reads what rank 0 told it last
            dist.barrier()
    except BaseException as error:
        code = error.exit_code if isinstance(error, TttkitError) else 1
        watch.leave(str(error) or type(error).__name__, code)
        raise
    finally:
        watch.stop()
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(world: World, timeout: float) -> tuple[Watch, Store]:
    waiting = timedelta(seconds=_RENDEZVOUS_SECONDS)
    try:
        base, _, _ = next(rendezvous("env://", world.rank, world.size, timeout=waiting))
        store = PrefixStore(f"tttkit/{world.restart}", base)
        has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_gpus else "gloo",
            store=PrefixStore("group", store),
            rank=world.rank,
            world_size=world.size,
            timeout=timedelta(seconds=_COLLECTIVE_SECONDS),
        )
        messages = PrefixStore("messages", store)
        watch = Watch(world, messages.clone(), timeout=timeout)
        dist.barrier()
    except RuntimeError as error:
        raise RankLostError(
            f"rank {world.rank} of {world.size} cannot join the other ranks: {error}",
            hint="look at the output of the other ranks, and check MASTER_ADDR and MASTER_PORT",
        ) from error
    watch.start()
    return watch, messages
