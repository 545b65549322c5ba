"""What the ranks of a run say to each other: decisions of rank 0, requests to stop, sums, and rows of tensors.

Decisions go through collectives at the borders of steps, so that no rank waits in a collective that another rank has
decided to skip. Messages are JSON and plain tensors; nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.distributed_c10d import Store

from tttkit.distributed.watch import Watch
from tttkit.errors import RankLostError
from tttkit.run.signals import StopRequestedError, StopSignals
from tttkit.run.world import ONE_PROCESS, World

_POLL_SECONDS = 1.0
"""How often a rank that waits for a message of rank 0 looks whether rank 0 has ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What all ranks do at the border of a step."""

    save: bool
    """Rank 0 saves now."""
    asked: bool
    """A SIGUSR1 to any rank asked for it."""


class Ranks:
    """The ranks of a run as one of them sees them; with one process every call returns at once."""

    def __init__(self, world: World = ONE_PROCESS, store: Store | None = None, watch: Watch | None = None) -> None:
        """Take the store and the watch of a process group that is initialized; None for one process."""
        self.world = world
        self.watch = watch
        self._store = store
        self._num_told = 0

    def beat(self, phase: str, step: int, own_seconds: float | None = None) -> None:
        """Note that the main thread is alive, what it does, at which step, and its own time of the last update."""
        if self.watch is not None:
            self.watch.beat(phase, step, own_seconds)

    def tell(self, value: Any) -> Any:
        """Return the value that rank 0 passes, on every rank: plain values for JSON.

        The other ranks wait as long as rank 0 is alive. Raises RankLostError when it ends before.
        """
        if self._store is None:
            return value
        key, self._num_told = f"told/{self._num_told}", self._num_told + 1
        if self.world.is_first:
            self._store.set(key, json.dumps(value))
            return value
        assert self.watch is not None
        while True:
            try:
                self._store.wait([key], timedelta(seconds=_POLL_SECONDS))
                return json.loads(self._store.get(key))
            except RuntimeError as error:  # a timeout, or rank 0 held the store and has ended
                lost = self.watch.ended_ranks() or (None if isinstance(error, dist.DistStoreError) else "rank 0 ended")
                if lost is not None:
                    raise RankLostError(lost) from None

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in their order: plain values for JSON. All ranks must call it."""
        if not self.world.is_distributed:
            return [value]
        text = json.dumps(value).encode()
        padded = torch.zeros(self._vote(len(text))[0], dtype=torch.uint8)
        padded[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        parts = [torch.empty_like(padded) for _ in range(self.world.size)]
        dist.all_gather(parts, padded)
        return [json.loads(part.numpy().tobytes().rstrip(b"\0")) for part in parts]

    def poll(self, signals: StopSignals) -> None:
        """Raise StopRequestedError on every rank if one of them was asked to stop. All ranks must call it."""
        if not self.world.is_distributed:
            signals.poll()
        elif (request := self._vote(self._stop_vote(signals))[0]) != 0:
            raise self._stop_of(request)

    def decide(self, signals: StopSignals, *, save: bool = False) -> Decision:
        """Agree at the border of a step: any rank may ask to stop or to save, rank 0 decides whether a save is due.

        Raises StopRequestedError on every rank if one of them was asked to stop.
        """
        asked = signals.take_save_request()
        if not self.world.is_distributed:
            signals.poll()
            return Decision(save=save or asked, asked=asked)
        request, asked_by_any, is_due = self._vote(self._stop_vote(signals), asked, save and self.world.is_first)
        if request:
            raise self._stop_of(request)
        return Decision(save=bool(is_due or asked_by_any), asked=bool(asked_by_any))

    def all_true(self, flag: bool) -> bool:
        """Return whether `flag` is true on every rank."""
        if not self.world.is_distributed:
            return flag
        return not self._vote(not flag)[0]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of the tensors of all ranks, of the same shape; it is computed in place."""
        if self.world.is_distributed:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of the tensors of all ranks, of the same shape; it is computed in place."""
        return self.sum(tensor).div_(self.world.size) if self.world.is_distributed else tensor

    def join_rows(self, tensor: Tensor) -> Tensor:
        """Return the rows of all ranks (R, …) in the order of ranks, given those of this rank (R / ranks, …)."""
        if not self.world.is_distributed:
            return tensor
        here = tensor.detach().cpu().contiguous()
        parts = [torch.empty_like(here) for _ in range(self.world.size)]
        dist.all_gather(parts, here)
        return torch.cat(parts)

    def own_rows(self, tensor: Tensor) -> Tensor:
        """Return the rows of this rank (R / ranks, …), given those of all ranks (R, …)."""
        return tensor.chunk(self.world.size)[self.world.rank] if self.world.is_distributed else tensor

    def computes(self, index: int) -> bool:
        """Return whether this rank computes batch `index` of an evaluation."""
        return index % self.world.size == self.world.rank

    def ends_round(self, index: int) -> bool:
        """Return whether every rank has computed a batch after batch `index`."""
        return (index + 1) % self.world.size == 0

    def agree(self, number: int) -> int:
        """Return the smallest number that any rank has."""
        return -self._vote(-number)[0] if self.world.is_distributed else number

    def join(self, nll: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the numbers of all ranks; each is computed by one rank, and is NaN on the others. Bits are kept."""
        known = ~np.isnan(nll)
        bits = self.sum(torch.from_numpy(np.where(known, nll.view(np.int32), 0)))
        num_known = self.sum(torch.from_numpy(known.astype(np.uint8)))
        return np.where(num_known.numpy() > 0, bits.numpy().view(np.float32), np.float32("nan"))

    @contextmanager
    def naming_lost_ranks(self) -> Iterator[None]:
        """Turn the failure of a collective into a RankLostError that names the rank which ended, if one did."""
        try:
            yield
        except RuntimeError as error:
            lost = None if self.watch is None or isinstance(error, RankLostError) else self.watch.find_lost()
            if lost is None:
                raise
            raise RankLostError(lost) from error

    @staticmethod
    def _vote(*values: int) -> list[int]:
        """Return the maximum over all ranks of each value."""
        votes = torch.tensor([int(value) for value in values])
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return [int(vote) for vote in votes]

    def _stop_vote(self, signals: StopSignals) -> int:
        """Return 0, or a number of signal and rank; of equal signals that of the lowest rank is the maximum."""
        if signals.requested is None:
            return 0
        return signal.Signals[signals.requested] * self.world.size + self.world.size - 1 - self.world.rank

    def _stop_of(self, vote: int) -> StopRequestedError:
        number, reverse_rank = divmod(vote, self.world.size)
        name, rank = signal.Signals(number).name, self.world.size - 1 - reverse_rank
        return StopRequestedError(name if rank == 0 else f"{name} to rank {rank}")
