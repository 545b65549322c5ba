"""Measure the cost of not losing work: training checkpoints, logs and heartbeat as a share of the training time.

`make bench` runs it. `--reference` measures the reference model instead (152.6M parameters, 7 GB of memory, minutes).

Two trainers run the same steps of the `quick` model. One writes as a run does, with a training checkpoint every 50
steps, the smallest default of `train.save_every`; the other writes nothing. Rounds alternate (A B B A …). The table
gives the medians, the median of the ratios within pairs, and the share of its time that the writing trainer spends in
writes. For the reference model, which saves once per thousand steps, steps and saves are timed one by one. The goal is
at most 2 %.
"""

from __future__ import annotations

import dataclasses
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tttkit.config.presets import preset_values
from tttkit.config.run import Config, build_config
from tttkit.data import Manifest, open_split, prepare_dataset
from tttkit.device import prepare_cpu
from tttkit.models import build_model
from tttkit.run.directory import RunDirectory
from tttkit.run.signals import StopSignals
from tttkit.train.checks import resolve
from tttkit.train.logs.metadata import Metadata
from tttkit.train.logs.metrics import RunLog
from tttkit.train.schedule import default_save_every
from tttkit.train.trainer import Trainer

ROUNDS = 4
NUM_STEPS = 50
NUM_REFERENCE_STEPS = 3
_WRITES = ("metrics", "write", "heartbeat")
"""The methods of the log that write."""


def resolved(preset: str, data: Path, manifest: Manifest, save_every: int | None) -> Config:
    """Return the configuration of a preset on the data made here, without evaluations."""
    values = preset_values(preset)
    values["data"] = {"path": str(data)}
    values["train"] |= {"save_every": save_every, "device": "cpu"}
    values["evaluation"] = {"num_checkpoints": 0}
    return resolve(build_config(values), manifest.vocab_size)


def build_trainer(path: Path, config: Config) -> Trainer:
    """Return a trainer in a new run directory."""
    run = RunDirectory(path)
    path.mkdir()
    log = RunLog(run)
    torch.manual_seed(0)
    splits = {name: open_split(config.data.path, name) for name in ("train", "validation")}
    return Trainer(
        run, config, build_model(config.model), splits, device=torch.device("cpu"),
        metadata=Metadata.new(run, config, [], log.writes), log=log, report=_nothing, signals=StopSignals(),
    )  # fmt: skip


def silence(trainer: Trainer) -> None:
    """Make a trainer write nothing."""
    trainer.save = _nothing
    for name in _WRITES:
        setattr(trainer.log, name, _nothing)


def _nothing(*_: object) -> None:
    """Do nothing in place of a write."""


class Clocked:
    """Adds up the seconds that a trainer spends in writes. A write within a write counts once."""

    def __init__(self, trainer: Trainer) -> None:
        self.seconds = 0.0
        self._depth = 0
        trainer.save = self._wrap(trainer.save)
        for name in _WRITES:
            setattr(trainer.log, name, self._wrap(getattr(trainer.log, name)))

    def _wrap(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            self._depth += 1
            started = time.perf_counter()
            try:
                function(*arguments)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - started

        return call


def train(trainer: Trainer, num_steps: int) -> float:
    """Return the seconds of some steps, including what the trainer does between them."""
    started = time.perf_counter()
    for _ in range(num_steps):
        trainer.maybe_save()
        trainer.train_step()
    return time.perf_counter() - started


def _state_bytes(trainer: Trainer) -> int:
    newest = max(trainer.run_directory.states.iterdir(), key=lambda path: int(path.name.partition("_")[2]))
    return sum(file.stat().st_size for file in newest.iterdir())


def quick(folder: Path, data: Path, manifest: Manifest) -> None:
    """Measure the small model with and without writes."""
    every = default_save_every(NUM_STEPS)
    config = resolved("quick", data, manifest, every)
    times: dict[str, list[float]] = {"writing": [], "silent": []}
    shares, num_bytes = [], 0
    train(build_trainer(folder / "warm-up", config), NUM_STEPS // 5)
    for index in range(ROUNDS):
        for kind in ("writing", "silent")[:: (-1) ** index]:
            trainer = build_trainer(folder / f"{kind}_{index}", config)
            if kind == "silent":
                silence(trainer)
                times[kind].append(train(trainer, NUM_STEPS))
                continue
            clock = Clocked(trainer)
            times[kind].append(train(trainer, NUM_STEPS))
            shares.append(clock.seconds / times[kind][-1])
            num_bytes = _state_bytes(trainer)
    ratios = [left / right for left, right in zip(times["writing"], times["silent"], strict=True)]
    print(f"quick: {NUM_STEPS} steps, a training checkpoint of {num_bytes / 1e6:.1f} MB every {every}")
    for kind, seconds in times.items():
        print(f"  {kind:28} {statistics.median(seconds):8.2f} s")
    print(f"  {'ratio, median of pairs':28} {statistics.median(ratios):8.4f}")
    print(f"  {'share of time in writes':28} {statistics.median(shares):8.2%}")


def reference(folder: Path, data: Path, manifest: Manifest) -> None:
    """Measure the reference model with its vocabulary: seconds of a step and of a save, and the share of saving."""
    config = resolved("curriculum-100k", data, manifest, None)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=50_257))
    trainer = build_trainer(folder / "reference", config)
    trainer.save()
    steps, saves = [], []
    for _ in range(NUM_REFERENCE_STEPS):
        started = time.perf_counter()
        trainer.train_step()
        steps.append(time.perf_counter() - started)
        started = time.perf_counter()
        trainer.save()
        saves.append(time.perf_counter() - started)
    step, save, every = statistics.median(steps), statistics.median(saves), default_save_every(config.train.max_steps)
    print(f"curriculum-100k: a training checkpoint of {_state_bytes(trainer) / 1e9:.2f} GB every {every} steps")
    print(f"  {'step':28} {step:8.2f} s\n  {'save':28} {save:8.2f} s")
    print(f"  {'share of time saving':28} {save / (every * step + save):8.2%}")
    print(f"  {'shortest step at 2 %':28} {save / every * 49 * 1e3:8.1f} ms")


def main() -> None:
    """Measure and print."""
    prepare_cpu(len(os.sched_getaffinity(0)))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        data, text = Path(folder) / "data", Path(folder) / "text.txt"
        generator = random.Random(0)  # the content of the text does not change the time
        text.write_text("\n".join(" ".join(generator.choices("abcdefgh", k=60)) for _ in range(20_000)))
        manifest = prepare_dataset([str(text)], data, tokenizer="bpe:280", validation_fraction=0.05, documents="line")
        (reference if "--reference" in sys.argv[1:] else quick)(Path(folder), data, manifest)


if __name__ == "__main__":
    main()
