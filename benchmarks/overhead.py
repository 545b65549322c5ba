"""What it costs that training cannot lose work: states, logs and heartbeat, as a share of the training time.

Run by `python benchmarks/overhead.py`. Both sides train the `quick` model for as many steps; one writes as a run does,
with a state every hundredth of a run of the reference's proportions, the other writes nothing at all. Rounds alternate
(A B B A …), and the table gives medians, their ratio, and the time that the writing side spent inside its writes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from tttkit import filesystem
from tttkit.config import build_config
from tttkit.data import open_split, prepare_dataset
from tttkit.models import build_model
from tttkit.presets import preset_values
from tttkit.rundir import RunDirectory
from tttkit.train.checks import resolve
from tttkit.train.metadata import Metadata
from tttkit.train.metrics import RunLog
from tttkit.train.signals import StopSignals
from tttkit.train.trainer import Trainer

ROUNDS = 6
NUM_STEPS = 100
SAVE_EVERY = 50
"""The least of `train.save_every` by default: a hundredth of the run, at least 50 steps."""


def build_trainer(path: Path, data: Path) -> Trainer:
    """A trainer of the quick preset in a new run directory."""
    values = preset_values("quick")
    values["data"] = {"path": str(data)}
    values["train"] |= {"save_every": SAVE_EVERY, "num_threads": 2, "device": "cpu"}
    values["evaluation"]["num_checkpoints"] = 0
    splits = {name: open_split(data, name) for name in ("train", "validation")}
    config = resolve(build_config(values), splits["train"]._manifest)  # noqa: SLF001
    run = RunDirectory(path)
    path.mkdir()
    log = RunLog(run)
    torch.manual_seed(0)
    return Trainer(
        run, config, build_model(config.model), splits, device=torch.device("cpu"),
        metadata=Metadata.new(run, config, [], log.writes), log=log, report=_nothing, signals=StopSignals(),
    )  # fmt: skip


def silence(trainer: Trainer) -> None:
    """Let a trainer write nothing."""
    trainer.save = _nothing
    for name in ("metrics", "write", "heartbeat"):
        setattr(trainer.log, name, _nothing)


def _nothing(*_: object) -> None:
    """Take the place of a write."""


class Clocked:
    """Adds up the seconds spent in calls of a function; calls within a call count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def wrap(self, function):
        """The function, its time counted."""

        def call(*arguments):
            self._depth += 1
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - started

        return call


def train(trainer: Trainer) -> float:
    """Seconds of NUM_STEPS steps with what comes between them."""
    started = time.perf_counter()
    for _ in range(NUM_STEPS):
        trainer._before_step()  # noqa: SLF001
        trainer.train_step()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print the table."""
    print(f"{type(filesystem.current).__name__}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    writing, silent, inside, num_bytes = [], [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        library = str(Path(sys.modules["asyncio" if "asyncio" in sys.modules else "json"].__file__).parent)
        prepare_dataset([library], data, tokenizer="bpe:2048", validation_fraction=0.2)
        for index in range(ROUNDS):
            for kind in ("AB", "BA")[index % 2]:
                trainer = build_trainer(Path(folder) / f"{index}{kind}", data)
                if kind == "B":
                    silence(trainer)
                    silent.append(train(trainer))
                    continue
                clock = Clocked()
                trainer.save = clock.wrap(trainer.save)
                for name in ("metrics", "write", "heartbeat"):
                    setattr(trainer.log, name, clock.wrap(getattr(trainer.log, name)))
                writing.append(train(trainer))
                inside.append(clock.seconds / writing[-1])
                num_bytes = sum(file.stat().st_size for file in trainer.run_directory.states.rglob("*")) // 2
    ratios = [left / right for left, right in zip(writing, silent, strict=True)]
    print(
        f"{'writing':24} {statistics.median(writing):8.2f} s for {NUM_STEPS} steps, a state of {num_bytes / 1e6:.1f} MB"
    )
    print(f"{'silent':24} {statistics.median(silent):8.2f} s")
    print(f"{'ratio, median of pairs':24} {statistics.median(ratios):8.4f}")
    print(f"{'share inside of writes':24} {statistics.median(inside):8.2%}")


if __name__ == "__main__":
    main()
