"""Runs in processes forked from one that has loaded torch: a trial costs little, and may be killed at any time."""

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

from tttkit.config.run import build_config
from tttkit.data import open_split
from tttkit.errors import TttkitError
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.run.signals import StopSignals
from tttkit.storage import filesystem
from tttkit.train import start, trainer
from tttkit.train.resume import checkpoint

torch.set_num_threads(1)
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # loads what the first optimizer loads, once for all forks

LONG = 1000.0
"""Seconds that no test waits."""
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.faults.trials"])


def add_dropout() -> None:
    """Let training draw random numbers: our models have none of their own, and their state must be proved too."""
    build = start.build_model

    def build_with_dropout(config):
        model = build(config)
        model.model.embed_tokens.register_forward_hook(
            lambda module, _inputs, output: functional.dropout(output, 0.1, module.training)
        )
        return model

    start.build_model = build_with_dropout


def break_code(mutant: str | None) -> None:
    """The mutants that only a whole run can show."""
    if mutant == "rng not saved":
        checkpoint.torch.set_rng_state = lambda _state: None
    elif mutant == "position off by one":
        restore = trainer.Trainer._restore

        def restore_off_by_one(self, state):
            restore(self, state)
            self.progress.step += 1

        trainer.Trainer._restore = restore_off_by_one


def train(values: dict, out: str, *, disk=None, saving=None, mutant=None, log=None, grace: float = 10.0) -> None:
    """Train; exits with the code that the command line would give. `saving` is a shared flag: a save is under way."""
    say_into(log)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what the signals restore at the end, when there is nothing to stop
    add_dropout()
    break_code(mutant)
    if disk is not None:
        filesystem.current = disk()
    if saving is not None:
        save = checkpoint.save_checkpoint

        def flagged(*arguments):
            saving.value = 1
            save(*arguments)
            saving.value = 0

        checkpoint.save_checkpoint = flagged
    try:
        with StopSignals(grace_seconds=grace) as signals:
            start.train(
                build_config(values),
                Path(out),
                report=lambda event: print(json.dumps(event.to_dict()), flush=True),
                signals=signals,
            )
    except TttkitError as error:
        print(f"error: {error}", flush=True)
        sys.exit(error.exit_code)


def say_into(log: str | None) -> None:
    """Both streams of this process go to the end of a file."""
    if log is not None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)


def command(arguments: list[str], *, disk=None, log=None) -> None:
    """A command other than training; exits with its code."""
    from tttkit_cli.app import _run

    say_into(log)
    if disk is not None:
        filesystem.current = disk()
    sys.exit(_run(arguments))


def race(path: str, begin, everyone_tried, winners, refusals) -> None:
    """Try to hold the lock of a run until all others have tried."""
    begin.wait()
    try:
        with exclusive(RunDirectory(Path(path))):
            winners.put(os.getpid())
            everyone_tried.wait()
    except TttkitError as error:
        refusals.put((error.exit_code, str(error)))
        everyone_tried.wait()


def save_twice(path: str, disk) -> None:
    """Commit a state with the real file system, then another with a file system that does not survive it."""
    run = RunDirectory(Path(path))
    model, optimizer = small_model()
    checkpoint.save_checkpoint(run, 1, model, optimizer, {"note": 1})
    filesystem.current = disk()
    checkpoint.save_checkpoint(run, 2, model, optimizer, {"note": 2})
    print(filesystem.current.num_calls)


def small_model():
    """A linear layer and AdamW with moments."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def stuck(grace: float, ready: str) -> None:
    """A main thread that never comes to a safe point, a disk and a terminal that hold up who leaves."""

    def hold_up(name: str) -> None:
        Path(f"{ready}.{name}").touch()
        time.sleep(LONG)

    with StopSignals(grace_seconds=grace) as signals:
        signals.before_leaving = lambda: hold_up("disk")
        signals.last_words = lambda: hold_up("terminal")
        Path(ready).touch()
        while True:
            time.sleep(0.01)


def read_cut_shard(data: str, size: int) -> None:
    """Map a split, then read what was cut off behind its back."""
    split = open_split(Path(data), "train")
    os.truncate(Path(data) / "train-00000.tok", size)
    split.tokens(split.num_tokens - 100, split.num_tokens)
