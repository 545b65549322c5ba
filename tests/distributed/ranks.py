"""Ranks in forked processes: what torchrun does, in a second. The fork server has loaded torch already."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from tests import training
from tttkit.errors import TttkitError
from tttkit.train import start  # noqa: F401 - loads what every rank needs once, in the fork server

torch.set_num_threads(1)
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.distributed.ranks"])


def start_ranks(size: int, function: Callable[..., object], *arguments: Any, log: Path) -> list[BaseProcess]:
    """Start `function(*arguments)` on `size` ranks; their errors go to the file `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        context.Process(target=_rank, args=(rank, size, port, str(log), function, arguments)) for rank in range(size)
    ]
    for rank in ranks:
        rank.start()
    return ranks


def codes_of(ranks: list[BaseProcess], seconds: float = 120.0) -> list[int | None]:
    """Wait for all ranks and return their exit codes; None for one that was still running and is killed."""
    for rank in ranks:
        rank.join(seconds)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
        rank.join()
    return codes


def train(values: dict[str, Any], out: str, **options: Any) -> None:
    """Train on this rank."""
    training.train(values, Path(out), **options)


def _rank(rank: int, size: int, port: int, log: str, function: Callable[..., object], arguments: tuple) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    if size == 1:
        del os.environ["RANK"]
    torch.set_num_threads(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        function(*arguments)
    except TttkitError as error:
        print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
