"""Training runs and commands in forked processes, which are cheap and may be killed at any time.

The fork server has loaded torch already, so that a trial takes less than a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

from tests import training
from tttkit.data import open_split
from tttkit.errors import TttkitError
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.run.signals import StopSignals
from tttkit.storage import filesystem
from tttkit.train import start, trainer
from tttkit.train.resume import checkpoint

torch.set_num_threads(1)
# The first optimizer loads more modules: load them once here instead of once in every fork.
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])

LONG = 1000.0
"""A time in seconds that is longer than any test waits."""
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.faults.trials"])


def add_dropout() -> None:
    """Make training draw random numbers, which our models do not: the state of the generator must be saved too."""
    build = start.build_model

    def build_with_dropout(config):
        model = build(config)
        model.model.embed_tokens.register_forward_hook(
            lambda module, _inputs, output: functional.dropout(output, 0.1, module.training)
        )
        return model

    start.build_model = build_with_dropout


def break_code(mutant: str | None) -> None:
    """Break the code in one of the ways that only a whole run can show."""
    if mutant == "rng not saved":
        checkpoint.torch.set_rng_state = lambda _state: None
    elif mutant == "position off by one":
        restore = trainer.Trainer._restore

        def restore_off_by_one(self, state):
            restore(self, state)
            self.progress.step += 1

        trainer.Trainer._restore = restore_off_by_one


def train(values: dict, out: str, *, disk=None, saving=None, mutant=None, log=None, grace: float = 10.0) -> None:
    """Train, and exit with the code that the command line would give. `saving` is a shared flag, set during a save."""
    redirect_output(log)
    # StopSignals restores this at the end, when a signal has nothing left to stop.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    add_dropout()
    break_code(mutant)
    if disk is not None:
        filesystem.current = disk()
    if saving is not None:
        save = checkpoint.save_checkpoint

        def flagged(*arguments, **options):
            saving.value = 1
            save(*arguments, **options)
            saving.value = 0

        checkpoint.save_checkpoint = flagged
    try:
        with StopSignals(grace_seconds=grace) as signals:
            training.train(
                values, Path(out), report=lambda event: print(json.dumps(event), flush=True), signals=signals
            )
    except TttkitError as error:
        print(f"error: {error}", flush=True)
        sys.exit(error.exit_code)


def redirect_output(log: str | None) -> None:
    """Append both output streams of this process to a file."""
    if log is not None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)


def command(arguments: list[str], *, disk=None, log=None) -> None:
    """Run a command other than training, and exit with its code."""
    from tttkit_cli.app import _run

    redirect_output(log)
    if disk is not None:
        filesystem.current = disk()
    sys.exit(_run(arguments))


def race(path: str, begin, everyone_tried, winners, refusals) -> None:
    """Take the lock of a run if possible, and hold it until all other processes have tried."""
    begin.wait()
    try:
        with exclusive(RunDirectory(Path(path))):
            winners.put(os.getpid())
            everyone_tried.wait()
    except TttkitError as error:
        refusals.put((error.exit_code, str(error)))
        everyone_tried.wait()


def save_twice(path: str, disk) -> None:
    """Save a training checkpoint with the real file system, then another with one that kills this process."""
    run = RunDirectory(Path(path))
    model, optimizer = small_model()
    checkpoint.save_checkpoint(run, 1, model, optimizer, {"note": 1})
    filesystem.current = disk()
    checkpoint.save_checkpoint(run, 2, model, optimizer, {"note": 2})
    print(filesystem.current.num_calls)


def small_model():
    """Return a linear layer and an AdamW with moments."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def stuck(grace: float, ready: str) -> None:
    """Never reach a safe point in the main thread, with a disk and a terminal that block the exit."""

    def block(name: str) -> None:
        Path(f"{ready}.{name}").touch()
        time.sleep(LONG)

    with StopSignals(grace_seconds=grace) as signals:
        signals.before_leaving = lambda: block("disk")
        signals.announce_exit = lambda: block("terminal")
        Path(ready).touch()
        while True:
            time.sleep(0.01)


def read_cut_shard(data: str, size: int) -> None:
    """Map a split, truncate its shard, then read the tokens that were cut off."""
    split = open_split(Path(data), "train")
    os.truncate(Path(data) / "train-00000.tok", size)
    split.tokens(split.num_tokens - 100, split.num_tokens)
