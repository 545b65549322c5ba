"""Compare batches of windows with torch DataLoader, numpy and memcpy, in windows per CPU second.

    python benchmarks/sampling.py [DATA] [--json]

Without DATA it makes a shard of the Python library's source. `make bench` runs it. Every round times each engine of a
group once, in turn; figures and ratios are medians over rounds. The shard is in the page cache; CPU time counts
workers too. Goals: 2 x numpy and 50 x DataLoader at 32 windows a batch; half of memcpy at 4,096, where the peer
copies as many bytes as a batch has into a new tensor.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tttkit.data import WindowSampler, open_split, prepare_dataset
from tttkit.data.benchmark import machine

ROUNDS = 9
WINDOW = 64
OURS = "tttkit WindowSampler"
SHARD_COPIES = 8
MEMCPY_BYTES = 1 << 28

Engine = Callable[[int], None]
"""Reads the given number of batches, each as an int64 tensor."""


class Windows(torch.utils.data.Dataset):
    """The data set that scripts usually write for DataLoader: one window by its number."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // WINDOW

    def __getitem__(self, index: int) -> torch.Tensor:
        row = self.tokens[index * WINDOW : index * WINDOW + WINDOW + 1]
        return torch.from_numpy(row.astype(np.int64))


def loader(tokens: np.ndarray, batch_size: int, workers: int) -> Engine:
    """Read windows with DataLoader, whose random order is made beforehand, as for `rows[order]`."""
    windows = Windows(tokens)
    order = np.random.default_rng(0).permutation(len(windows))

    def run(count: int) -> None:
        part = order[: count * batch_size].tolist()
        for _ in torch.utils.data.DataLoader(windows, batch_size, sampler=part, num_workers=workers):
            pass

    return run


def ours(sampler: WindowSampler) -> Engine:
    steps = iter(range(1 << 62))

    def run(count: int) -> None:
        for _ in range(count):
            sampler.batch(next(steps))

    return run


def gather(tokens: np.ndarray, batch_size: int) -> Engine:
    """Read rows of a view in the order of an existing permutation: W tokens each, without the token that follows."""
    rows = tokens[: len(tokens) // WINDOW * WINDOW].reshape(-1, WINDOW)
    order, place = np.random.default_rng(0).permutation(len(rows)), 0

    def run(count: int) -> None:
        nonlocal place
        for _ in range(count):
            place = place if place + batch_size <= len(rows) else 0
            torch.from_numpy(rows[order[place : place + batch_size]].astype(np.int64))
            place += batch_size

    return run


def memcpy(batch_size: int) -> Engine:
    shape = (batch_size, WINDOW + 1)
    sources, place = torch.ones((MEMCPY_BYTES // (8 * shape[0] * shape[1]), *shape), dtype=torch.int64), 0

    def run(count: int) -> None:
        nonlocal place
        for _ in range(count):
            torch.empty(shape, dtype=torch.int64).copy_(sources[place])
            place = (place + 1) % len(sources)

    return run


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measure(group: dict[str, tuple[Engine, int]], batch_size: int) -> dict[str, dict[str, float]]:
    """Return windows per CPU second of each engine, and the speed of ours over its speed, medians over rounds."""
    for engine, _ in group.values():
        engine(2)
    costs: dict[str, list[float]] = {name: [] for name in group}
    for _ in range(ROUNDS):
        for name, (engine, count) in group.items():
            started = cpu_seconds()
            engine(count)
            costs[name].append((cpu_seconds() - started) / (count * batch_size))
    return {
        name: {
            "windows_per_cpu_second": 1 / statistics.median(cost),
            "ours_is": statistics.median(theirs / own for theirs, own in zip(cost, costs[OURS], strict=True)),
        }
        for name, cost in costs.items()
    }


def groups(data: Path) -> dict[int, dict[str, tuple[Engine, int]]]:
    """Return the engines by batch size, each with the number of batches in a round."""
    split = open_split(data, "train")
    tokens = split.tokens(0, split.num_tokens)
    sampler = functools.partial(WindowSampler, split, window=WINDOW)
    small, large = 32, 4096
    return {
        small: {
            OURS: (ours(sampler(batch_size=small)), 2000),
            "numpy rows[order]": (gather(tokens, small), 2000),
            "torch DataLoader, 0 workers": (loader(tokens, small, 0), 500),
            "torch DataLoader, 2 workers": (loader(tokens, small, 2), 500),
        },
        large: {
            OURS: (ours(sampler(batch_size=large)), 50),
            "numpy rows[order]": (gather(tokens, large), 50),
            "memcpy to a new tensor": (memcpy(large), 50),
        },
    }


def run(data: Path) -> None:
    """Print the table, or JSON with --json."""
    torch.set_num_threads(1)
    results = {size: measure(group, size) for size, group in groups(data).items()}
    if "--json" in sys.argv[1:]:
        print(json.dumps({"machine": machine(), "batches": results}, indent=2))
        return
    print(machine()["processor"], *machine()["features"], f"{os.cpu_count()} cores")
    for size, rows in results.items():
        print(f"batches of {size} windows of {WINDOW + 1} tokens")
        for name, row in rows.items():
            rate = f"{row['windows_per_cpu_second'] / 1e6:8.3f} M windows per CPU s"
            print(f"  {name:<28} {rate}" + (f"   {OURS} is {row['ours_is']:.2f}x" if name != OURS else ""))


def main() -> None:
    """Measure on DATA, or on a shard of the Python library's source."""
    named = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if named:
        run(Path(named[0]))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare_dataset(["stdlib"] * SHARD_COPIES, Path(folder) / "data", "bpe:4096", validation_fraction=0)
        run(Path(folder) / "data")


if __name__ == "__main__":
    main()
