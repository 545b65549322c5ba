"""Training speed of the `quick` model on one process and on several ranks, on the cores of this machine.

Run nothing else meanwhile: `python benchmarks/ranks.py`. Every figure comes from a command of its own, which trains
`--steps` updates of the same 16 windows: one process on all cores, one rank on each core (DDP and FSDP2, over gloo),
one process on one core, and the same under torchrun. Rounds run all of them in turn, the second half of the rounds in
the opposite order. The table has medians of tokens per second, and the median of the ratios within rounds. The goals:
ranks on all cores keep 0.95 of one process there, and torchrun with one rank costs at most 1 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
SEVERAL, ALONE = f"one process, {CORES} threads", "one process, 1 thread"
CASES = {
    SEVERAL: (None, CORES, ()),
    f"{CORES} ranks of 1 thread, DDP": (CORES, 1, ()),
    f"{CORES} ranks of 1 thread, FSDP2": (CORES, 1, ("--parallel", "fsdp")),
    ALONE: (None, 1, ()),
    "torchrun, 1 rank of 1 thread": (1, 1, ()),
}
"""Number of ranks (None: without torchrun), threads of each, and options, by name."""
PEERS = {name: ALONE if ranks == 1 else SEVERAL for name, (ranks, _, _) in CASES.items() if ranks}
"""The case that each case with torchrun is compared with."""


def measure(data: Path, ranks: int | None, threads: int, options: tuple[str, ...], steps: int) -> float:
    """Return the tokens per second of all ranks together: the median update after the first half of a run."""
    torchrun = [] if ranks is None else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable, *torchrun, "-m", "tttkit_cli", "train", "--data", str(data), "--out", str(run),
            "--max-steps", str(steps), "--global-batch", "16", "--num-eval-checkpoints", "0", "--no-early-stop",
            "--save-every", str(steps), "--device", "cpu", "--threads", str(threads),
            "--set", "train.log_every=1", *options,
        ]  # fmt: skip
        environment |= {"OMP_NUM_THREADS": str(threads)}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode:
            sys.exit(result.stderr)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(record["tokens_per_second"] for record in records[len(records) // 2 :])


def measure_all(data: Path, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the speeds of all rounds by case."""
    speeds: dict[str, list[float]] = {name: [] for name in CASES}
    for index in range(rounds):
        names = list(CASES) if index < (rounds + 1) // 2 else list(reversed(CASES))
        for name in names:
            speeds[name].append(measure(data, *CASES[name], steps))
    return speeds


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    from tttkit.config.presets import preset_values
    from tttkit.data import prepare_dataset

    source = preset_values("quick")["data"]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        prepare_dataset([source["source"]], data, tokenizer=source["tokenizer"], validation_fraction=0.05)
        speeds = measure_all(data, arguments.rounds, arguments.steps)
    print(f"quick model, 16 windows an update, medians of {arguments.rounds} rounds")
    for name, values in speeds.items():
        peer = PEERS.get(name, name)
        ratios = [value / other for value, other in zip(values, speeds[peer], strict=True)]
        compared = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of {peer}"
        print(f"{name:<34}{statistics.median(values):>8,.0f} tokens/s   {compared if name != peer else ''}".rstrip())


if __name__ == "__main__":
    main()
